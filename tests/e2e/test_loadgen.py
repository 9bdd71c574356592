"""MLPerf LoadGen drives the same system under test: its own summary is the independent truth. Real processes."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import SutFailure
from harness.measurement.referee import Referee, ring_shape
from harness.traffic.arrivals import make_trace
from harness.traffic.loadgen import LOG_FILES, LoadGenPlan
from harness.traffic.segment import Segment, Status
from zoo.schema import Split

pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed (extra mlperf)")
pytestmark = pytest.mark.e2e
MISBEHAVING = (sys.executable, str(Path(__file__).parents[1] / "rejects" / "misbehaving_sut.py"))
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
