"""MLPerf LoadGen drives the same system under test: its own summary is the independent truth. Real processes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import SutFailure
from harness.measurement.referee import Referee, ring_shape
from harness.record.derive import late_count
from harness.record.reader import find_records, read_record, record_problems
from harness.traffic.arrivals import make_trace
from harness.traffic.loadgen import LOG_FILES, LoadGenPlan
from harness.traffic.segment import Segment, Status
from leaderboard.verify import verify
from zoo.schema import Split

pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed (extra mlperf)")
pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
MISBEHAVING = (sys.executable, str(ROOT / "tests" / "rejects" / "misbehaving_sut.py"))
MS = 1_000_000
SYNTHETIC = {"kind": "synthetic", "service": {"law": "fixed", "mean_ms": 4.0}}
GOOD = 20


def _run(
    split: Split, folder: Path, spec: Mapping[str, Any] = SYNTHETIC, rate_qps: float = 150.0, **start: Any
) -> Segment:
    library = make_trace(3, 500, "heavy", split.groups).queries(split.groups)
    plan = LoadGenPlan(rate_qps=rate_qps, seconds=3.0, limit_ns=10 * MS, percentile=99.0, seed=11, folder=str(folder))
    with Referee(stall_s=1.0) as referee:
        referee.start_side("sut", spec, ring_shape([split], 100), **start)
        segment, queries = referee.run_loadgen("sut", split, library, plan)
    np.testing.assert_array_equal(segment.size, queries.sizes)
    assert set(segment.size) <= set(library.sizes)
    return segment


def test_our_columns_give_loadgens_own_summary(split: Split, tmp_path: Path) -> None:
    segment = _run(split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(LOG_FILES)
    summary = (tmp_path / LOG_FILES[0]).read_text()
    np.testing.assert_array_equal(segment.status, Status.ANSWERED)
    ordered = np.sort(segment.latency_ns)
    said = {label.strip(): int(value) for label, value in re.findall(r"^(.*) \(ns\) *: (\d+)$", summary, re.MULTILINE)}
    assert (said["Min latency"], said["Max latency"]) == (ordered[0], ordered[-1])
    assert said["Mean latency"] == int(ordered.sum()) // len(ordered)
    for percent in ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90"):
        rank = int(len(ordered) * float(percent) / 100.0)
        assert said[f"{percent} percentile latency"] == ordered[rank]
    assert said["target_latency"] == 10 * MS
    assert "target_qps : 150" in summary
    assert (segment.planned_ns <= segment.sent_ns).all() and (segment.sent_ns <= segment.dequeued_ns).all()
    assert (segment.started_ns + 4 * MS <= segment.done_ns).all()
    assert (np.diff(segment.planned_ns) >= 0).all()


def test_what_loadgen_takes_for_an_answer_is_late_when_it_is_not_a_good_one(split: Split, tmp_path: Path) -> None:
    segment = _run(split, tmp_path, {"fault": "nan", "after": GOOD}, command=MISBEHAVING)
    assert segment.status.tolist() == [Status.ANSWERED] * GOOD + [Status.NOT_FINITE] * (len(segment) - GOOD)
    assert segment.late(1_000 * MS).sum() == len(segment) - GOOD > 0
    assert "No errors encountered" in (tmp_path / LOG_FILES[0]).read_text()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("killed", r"'sut' ended in the middle of a segment \(was killed by signal SIGKILL\)"),
        ("hangs", r"'sut' hangs: queries in flight, and no answer for 1 s"),
        ("flood", r"'sut' broke the protocol"),
    ],
)
def test_a_failure_ends_a_loadgen_test_and_says_what_happened(
    fault: str, message: str, split: Split, tmp_path: Path
) -> None:
    with pytest.raises(SutFailure, match=message):
        _run(split, tmp_path, {"fault": fault, "after": GOOD}, command=MISBEHAVING)


def test_a_query_without_a_free_slot_is_dropped_and_late(split: Split, tmp_path: Path) -> None:
    library = make_trace(3, 500, "fixed:4", split.groups).queries(split.groups)
    plan = LoadGenPlan(rate_qps=100.0, seconds=1.0, limit_ns=MS, percentile=99.0, seed=1, folder=str(tmp_path))
    slow = {"kind": "synthetic", "service": {"law": "fixed", "mean_ms": 100.0}}
    with Referee() as referee:
        referee.start_side("sut", slow, ring_shape([split], 100, slots=2))
        segment, _ = referee.run_loadgen("sut", split, library, plan)
    assert set(segment.status) == {Status.ANSWERED, Status.DROPPED}
    assert segment.late(MS).all()
    assert (segment.sent_ns[segment.status == Status.DROPPED] == -1).all()


def test_the_scenario_keeps_loadgens_logs_beside_both_late_fractions(tmp_path: Path, job_cache: Path) -> None:
    overrides = ["scenario=mlperf_server", "scenario.rate_qps=40", "scenario.sla_ms=200", "model=dlrm", "opt=[fusion]"]
    overrides += ["dataset.size=tiny", "training.max_epochs=1", "budget=smoke", "tracking=none"]
    overrides += [f"cache_dir={job_cache}"]
    program = [sys.executable, str(ROOT / "run.py"), *overrides, f"records_dir={tmp_path / 'records'}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = find_records(tmp_path / "records")
    assert record_problems(path) == []
    record = read_record(path)
    result, queries = record.result, record.queries()
    assert result.trial["rate_qps"] == 40.0
    assert result.candidate is not None and result.gate is not None and result.gate.verdict == "pass"
    assert (result.baseline.lbt_status, result.baseline.latency_ms.offered_qps) == ("not_measured", 40.0)
    for side in ("baseline", "candidate"):
        purposes = [segment.purpose for segment in result.segments if segment.side == side]
        assert purposes.count("loadgen") == purposes.count("latency") == 1
        (theirs,) = [s for s in result.segments if (s.side, s.purpose) == (side, "loadgen")]
        assert late_count(queries, theirs, 200.0) == (theirs.queries, theirs.late)
        rows = (queries["side"] == side) & (queries["segment"] == theirs.segment)
        summary = (path / f"{side}_mlperf_log_summary.txt").read_text()
        longest = (queries["done_ns"] - queries["planned_ns"])[rows].max()
        assert f"Max latency (ns)                : {longest}\n" in summary
        assert (path / f"{side}_mlperf_log_detail.txt").stat().st_size > 0
    assert verify(path).passed
