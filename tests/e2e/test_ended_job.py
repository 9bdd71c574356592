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
from tests.e2e.paired_record import check_paired_record

pytestmark = pytest.mark.e2e
DLRM = ("model=dlrm", "opt=[fusion,bf16,embedding_tier]", "opt.bf16.embedding=false", "dataset.table_copies=50")
"""A model whose tables are larger than trained, and lie in their file."""


@pytest.fixture
def started(main_job: MainJob) -> Iterator[subprocess.Popen[str]]:
    """A run whose systems under test are being asked."""
    process = subprocess.Popen(
        main_job.command(*DLRM),
        cwd=main_job.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "accuracy run" in line:
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


def test_an_interrupted_run_leaves_neither_processes_nor_half_records_and_is_measured_when_started_again(
    started: subprocess.Popen[str], main_job: MainJob
) -> None:
    children = _children_of(started.pid)
    assert len(children) >= 4  # the sender and three systems under test
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=30)
    assert started.returncode == 130
    assert _gone(children)
    assert list(main_job.folder.iterdir()) == []
    again = main_job.run(*DLRM)
    assert again.returncode == 0, again.stdout + again.stderr
    check_paired_record(main_job.only_record())


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
