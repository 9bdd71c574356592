"""Fixtures of the runs of the whole program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.main_job import MainJob


@pytest.fixture(scope="session")
def job_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and weights of all jobs of the session: what one has trained, the next one finds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def main_job(tmp_path: Path, job_cache: Path) -> MainJob:
    """The main job in an empty folder."""
    return MainJob(tmp_path, job_cache)
