"""A main job that does not get to its end: interrupted by its user, or bereft of a system under test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.main_job import MainJob

pytestmark = pytest.mark.e2e


@pytest.fixture
def started(main_job: MainJob) -> Iterator[subprocess.Popen[str]]:
    """A run that has reached its timed part."""
    process = subprocess.Popen(
        main_job.command("model=dlrm", "opt=[fusion]"),
        cwd=main_job.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "searching the rate" in line:
            break
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def _children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()]


def _gone(pids: list[int]) -> bool:
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_an_interrupted_run_leaves_neither_processes_nor_half_records_and_can_be_started_again(
    started: subprocess.Popen[str], main_job: MainJob
) -> None:
    children = _children_of(started.pid)
    assert len(children) >= 4  # the sender and three systems under test
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=30)
    assert started.returncode == 130
    assert _gone(children)
    assert list(main_job.folder.iterdir()) == []
    assert main_job.run("model=dlrm", "opt=[fusion]").returncode == 0
    assert main_job.only_record().is_dir()


def test_a_system_under_test_that_is_killed_ends_the_run_with_a_message(
    started: subprocess.Popen[str], main_job: MainJob
) -> None:
    children = _children_of(started.pid)
    victim = next(pid for pid in reversed(children) if "harness.sut.server" in _command_line(pid))
    os.kill(victim, signal.SIGKILL)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 1
    assert "SIGKILL" in output
    assert "Traceback" not in output
    assert _gone(children)
    assert not list(main_job.folder.glob("*/manifest.json"))


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
