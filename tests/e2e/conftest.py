"""Fixtures of the runs of the whole program, and the order in which they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.main_job import MainJob

pytest.register_assert_rewrite("tests.e2e.paired_record")
WHOLE_JOBS = ("test_killed_sweep", "test_ended_job", "test_main_job", "test_training_gate", "test_training_job")


@pytest.fixture
def main_job(tmp_path: Path, job_cache: Path) -> MainJob:
    """The main job in an empty folder."""
    return MainJob(tmp_path, job_cache)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: one of them at the end would run on while the other processes have nothing left."""
    items.sort(key=lambda item: item.path.stem not in WHOLE_JOBS)
