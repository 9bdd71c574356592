"""The main process of a sweep is killed (SIGKILL): no orphan, no half record, and the same command goes on.

Its trials are of no optimization: the baseline alone is measured, under two scenarios.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.clock import sleep_s
from harness.host.processes import read_stat
from harness.record.reader import file_sha256, find_records, read_record, record_problems
from harness.record.writer import TEMPORARY_PREFIX

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
TIMED = "accuracy run"


def _command(folder: Path, cache: Path) -> list[str]:
    sweep = ["-m", "model=dlrm", "scenario=offline,single_stream", "dataset.size=tiny"]
    sweep += ["training.max_epochs=1", "budget=smoke", "tracking=none"]
    return [sys.executable, str(ROOT / "run.py"), *sweep, f"records_dir={folder / 'records'}", f"cache_dir={cache}"]


def _descendants(pid: int) -> list[int]:
    found, waiting = list[int](), [pid]
    while waiting:
        for thread in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            children = [int(word) for word in thread.read_text().split()]
            found += children
            waiting += children
    return found


def _running(pids: list[int]) -> list[int]:
    stats = [read_stat(pid) for pid in pids]
    return [stat.pid for stat in stats if stat is not None and stat.state not in "ZX"]


@pytest.mark.timeout(600)
def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path, job_cache: Path) -> None:
    command = _command(tmp_path, job_cache)
    sweep = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert sweep.stdout is not None
    timed = 0
    for line in sweep.stdout:
        timed += line.startswith(TIMED) and line.rstrip().endswith("samples") and "/" not in line
        if timed == 2:
            break
    children = _descendants(sweep.pid)
    assert len(children) >= 3  # the sender, the floor, the baseline
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    for _ in range(400):
        if not _running(children):
            break
        sleep_s(0.005)
    assert _running(children) == []
    sweep.stdout.close()

    records = tmp_path / "records"
    (first,) = find_records(records)
    assert record_problems(first) == []
    (left,) = set(records.iterdir()) - {first}
    assert left.name.startswith(TEMPORARY_PREFIX)
    before = {path.name: file_sha256(path) for path in first.iterdir()}

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"skipped, its valid record is {first}" in done.stdout
    kept, second = find_records(records)
    assert kept == first and {path.name: file_sha256(path) for path in first.iterdir()} == before
    assert record_problems(second) == []
    result = read_record(second).result
    assert result.trial["scenario"] == "single_stream" and result.plan == ()
    assert (result.candidate, result.ratio, result.gate) == (None, None, None)
    assert result.baseline.auc > 0.5
    assert set(records.iterdir()) == {first, second}
