"""The main job, as a user starts it: every model measured against its baseline on a tiny data set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from harness.record.result import Result
from leaderboard.result_check import check_result

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _command(folder: Path, cache: Path, *overrides: str) -> list[str]:
    # The limit is far away: these runs are about what is written down, on machines that may be busy.
    common = ["dataset.size=tiny", "budget=smoke", "scenario.sla_ms=2000", "tracking=none"]
    common += [f"records_dir={folder}", f"cache_dir={cache}"]
    return [sys.executable, str(ROOT / "run.py"), *common, *overrides]


def _run(folder: Path, cache: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(folder, cache, *overrides), cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )


def _only_record(folder: Path) -> Path:
    (record,) = folder.glob("*_*/manifest.json")
    return record.parent


@pytest.mark.parametrize("model", ["wdl", "din", "dien", "dlrm"])
def test_each_model_is_measured_and_its_numbers_follow_from_the_raw_columns(
    model: str, tmp_path: Path, cache: Path
) -> None:
    done = _run(tmp_path, cache, f"model={model}", "opt=[fusion,bf16]")
    assert done.returncode == 0, done.stdout + done.stderr
    record = _only_record(tmp_path)
    plain = json.loads((record / "result.json").read_text("utf-8"))
    assert check_result(plain) == []
    result = Result.from_dict(plain)
    assert result.gate is not None and result.gate.verdict == "pass"
    assert result.candidate is not None and result.ratio is not None
    assert [line.name for line in result.plan] == ["fusion", "bf16"]
    rows = pq.read_table(record / "predictions.parquet").to_pandas()
    for side, reported in (("baseline", result.baseline), ("candidate", result.candidate)):
        own = rows[(rows.side == side) & (rows.run == "accuracy") & rows.label.notna()]
        assert reported.auc == pytest.approx(roc_auc_score(own.label, own.score), abs=1e-9)
        assert reported.logloss == pytest.approx(log_loss(own.label, own.score.astype(np.float64)), rel=1e-6)
    queries = pq.read_table(record / "queries.parquet").to_pandas()
    open_loop = queries[queries.offered_qps > 0]  # a closed loop asks for more than it has the time for
    assert (open_loop.status == 0).mean() > 0.9
    sent = queries[queries.sent_ns >= 0]
    assert len(sent) > 1000
    assert (sent.sent_ns >= sent.planned_ns).all()


def test_no_optimization_measures_the_baseline_alone(tmp_path: Path, cache: Path) -> None:
    done = _run(tmp_path, cache, "model=din")
    assert done.returncode == 0, done.stdout + done.stderr
    plain = json.loads((_only_record(tmp_path) / "result.json").read_text("utf-8"))
    assert (plain["candidate"], plain["ratio"], plain["gate"], plain["plan"]) == (None, None, None, [])
    assert plain["baseline"]["auc"] > 0.5


@pytest.fixture
def started(tmp_path: Path, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has reached its timed part."""
    process = subprocess.Popen(
        _command(tmp_path, cache, "model=din", "opt=[fusion]"),
        cwd=tmp_path,
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
    started: subprocess.Popen[str], tmp_path: Path, cache: Path
) -> None:
    children = _children_of(started.pid)
    assert len(children) >= 4  # the sender and three systems under test
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=30)
    assert started.returncode == 130
    assert _gone(children)
    assert list(tmp_path.iterdir()) == []
    assert _run(tmp_path, cache, "model=din", "opt=[fusion]").returncode == 0
    assert _only_record(tmp_path).is_dir()


def test_a_system_under_test_that_is_killed_ends_the_run_with_a_message(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    children = _children_of(started.pid)
    victim = next(pid for pid in reversed(children) if "harness.sut.server" in _command_line(pid))
    os.kill(victim, signal.SIGKILL)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 1
    assert "SIGKILL" in output
    assert "Traceback" not in output
    assert _gone(children)
    assert not list(tmp_path.glob("*/manifest.json"))


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
