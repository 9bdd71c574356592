"""Fixtures of the runs of the whole program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.main_job import MainJob

pytest.register_assert_rewrite("tests.e2e.paired_record")


@pytest.fixture
def main_job(tmp_path: Path, job_cache: Path) -> MainJob:
    """The main job in an empty folder."""
    return MainJob(tmp_path, job_cache)
