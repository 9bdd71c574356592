"""Whatever a SUT does, the right queries are late, the run ends in time, and nobody is left behind."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.clock import now_ns, sleep_s
from harness.errors import SutFailure
from harness.host.garbage import Collections
from harness.host.processes import read_stat
from harness.measurement.referee import OpenLimits, Referee, ring_shape
from harness.traffic.arrivals import make_trace, sweep
from harness.traffic.segment import Segment, Status
from zoo.schema import Split

COMMAND = (sys.executable, str(Path(__file__).with_name("misbehaving_sut.py")))
MS = 1_000_000
QUERIES, RATE, GOOD = 60, 300.0, 20


def _gone(pids: list[int]) -> bool:
    stats = [read_stat(pid) for pid in pids]
    return all(stat is None or stat.state in "ZX" for stat in stats)


def _start(referee: Referee, split: Split, fault: str, **spec: Any) -> None:
    order = {"fault": fault, "after": GOOD, **spec}
    referee.start_side("sut", order, ring_shape([split], 100, slots=64), command=COMMAND, timeout_s=30.0)


def _run(split: Split, fault: str) -> tuple[Segment, list[int]]:
    with Referee(stall_s=1.0) as referee:
        _start(referee, split, fault)
        pids = [*referee.pids("sut"), referee.sender.group.pid]
        trace = make_trace(1, QUERIES, "fixed:4", split.groups)
        limits = OpenLimits(limit_ns=1_000 * MS, drain_ns=200 * MS)
        try:
            segment = referee.run_open("sut", split, trace, RATE, limits)
        except SutFailure:
            assert _gone(pids[:-1])
            raise
    assert _gone(pids)
    return segment, pids


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("wrong_length", Status.WRONG_LENGTH),
        ("nan", Status.NOT_FINITE),
        ("wrong_sequence", Status.WRONG_SEQUENCE),
        ("error_status", Status.FAILED),
    ],
)
def test_bad_answers_are_late_and_nothing_else_is(split: Split, fault: str, status: Status) -> None:
    segment, _ = _run(split, fault)
    assert segment.status.tolist() == [Status.ANSWERED] * GOOD + [status] * (QUERIES - GOOD)
    assert segment.late(1_000 * MS).tolist() == [False] * GOOD + [True] * (QUERIES - GOOD)
    assert np.isnan(segment.scores[4 * GOOD :]).all()
    assert (segment.scores[: 4 * GOOD] == 0.5).all()


def test_answers_out_of_order_are_fine(split: Split) -> None:
    segment, _ = _run(split, "out_of_order")
    np.testing.assert_array_equal(segment.status, Status.ANSWERED)
    np.testing.assert_array_equal(segment.scores, np.repeat(np.arange(1, QUERIES + 1), 4))
    pairs = segment.done_ns.reshape(-1, 2)
    assert (pairs[:, 1] <= pairs[:, 0]).all()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("killed", r"'sut' ended in the middle of a segment \(was killed by signal SIGKILL\)"),
        ("exits", r"ended in the middle of a segment \(exited with code 5\)\.\na last line in the log"),
        ("hangs", r"'sut' hangs: queries in flight, and no answer for 1 s"),
        ("silent", r"'sut' hangs: queries in flight, and no answer for 1 s"),
        ("twice", r"'sut' broke the protocol: (39|40) answers for queries not in flight"),
        ("unknown_slot", r"'sut' broke the protocol: 40 answers for queries not in flight"),
        ("flood", r"'sut' broke the protocol: \d{2,} answers for queries not in flight"),
    ],
)
def test_a_failure_ends_the_segment_in_time_and_says_what_happened(split: Split, fault: str, message: str) -> None:
    start = now_ns()
    with pytest.raises(SutFailure, match=message):
        _run(split, fault)
    assert now_ns() - start < 30 * 1_000_000_000


@pytest.mark.parametrize("fault", ["killed", "hangs"])
def test_a_failure_in_a_closed_loop(split: Split, fault: str) -> None:
    with Referee(stall_s=1.0) as referee:
        _start(referee, split, fault)
        with pytest.raises(SutFailure, match=r"ended in the middle|hangs"):
            referee.run_closed("sut", split, sweep(split, 10), 3)


def test_other_sides_outlive_a_failure(split: Split) -> None:
    trace = make_trace(1, QUERIES, "fixed:4", split.groups)
    limits = OpenLimits(limit_ns=1_000 * MS)
    with Referee(stall_s=1.0) as referee:
        referee.start_side("null", {"kind": "null"}, ring_shape([split], 100))
        _start(referee, split, "killed")
        with pytest.raises(SutFailure):
            referee.run_open("sut", split, trace, RATE, limits)
        segment = referee.run_open("null", split, trace, RATE, limits)
        np.testing.assert_array_equal(segment.status, Status.ANSWERED)


def test_a_sut_that_is_never_ready(split: Split) -> None:
    with Referee() as referee, pytest.raises(SutFailure, match=r"'sut' was not ready within 1 s"):
        order = {"fault": "never_ready", "after": 0}
        referee.start_side("sut", order, ring_shape([split], 100), command=COMMAND, timeout_s=1.0)


def test_an_exception_while_building_arrives_with_its_traceback(split: Split) -> None:
    with Referee() as referee, pytest.raises(SutFailure) as caught:
        spec = {"kind": "synthetic", "service": {"law": "unheard-of", "mean_ms": 1.0}}
        referee.start_side("sut", spec, ring_shape([split], 100))
    assert "could not be built" in str(caught.value)
    assert "Traceback (most recent call last)" in str(caught.value)
    assert "ValueError: service law 'unheard-of' is not known: use fixed, exponential or table" in str(caught.value)


def test_an_exception_while_answering_arrives_with_its_traceback(split: Split) -> None:
    trace = make_trace(1, 200, "uniform:1-100", split.groups)
    law = {"law": "exponential", "mean_ms": -1.0}
    with (
        Referee() as referee,
        pytest.raises(SutFailure, match=r"(?s)in the middle of a segment.*ValueError: scale < 0"),
    ):
        referee.start_side("sut", {"kind": "synthetic", "service": law}, ring_shape([split], 100))
        referee.run_open("sut", split, trace, RATE, OpenLimits(limit_ns=MS))


def test_collections_of_the_sut_are_counted_while_a_segment_runs_and_the_sender_makes_none(split: Split) -> None:
    with Referee() as referee:
        _start(referee, split, "collects")
        trace = make_trace(1, QUERIES, "fixed:4", split.groups)
        segments = [referee.run_open("sut", split, trace, RATE, OpenLimits(limit_ns=1_000 * MS)) for _ in range(2)]
        first, second = (segment.collections["sut"] for segment in segments)
        assert (first.count, second.count) == (QUERIES - GOOD, QUERIES)
        for seen in (first, second):
            assert 0 < seen.longest_ns <= seen.total_ns <= seen.count * seen.longest_ns
        assert referee.collections == {"sut": first + second, "sender": Collections()}


def test_the_real_server_tells_of_its_collections(split: Split, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import gc\ngc.set_threshold(1, 1, 1)\n")
    with Referee() as referee:
        spec = {"kind": "null", "environment": {"PYTHONPATH": str(tmp_path)}}
        referee.start_side("null", spec, ring_shape([split], 100))
        referee.run_closed("null", split, sweep(split, 10))
        assert referee.collections["null"].count > 0
        assert referee.collections["sender"] == Collections()


def test_cpu_that_a_side_burns_outside_of_its_session_is_seen_and_frozen(split: Split) -> None:
    with Referee() as referee:
        _start(referee, split, "burns_beside")
        before = referee.cpu_ns("sut")
        sleep_s(0.4)
        assert referee.cpu_ns("sut") - before > 100 * MS
        referee.freeze("sut")
        frozen = referee.cpu_ns("sut")
        sleep_s(0.3)
        assert referee.cpu_ns("sut") == frozen
        pids = list(referee.pids("sut"))
        assert len(pids) == 2
    assert _gone(pids)


def test_a_sender_that_dies_ends_the_run(split: Split) -> None:
    trace = make_trace(1, 1000, "fixed:4", split.groups)
    with Referee() as referee:
        referee.start_side("null", {"kind": "null"}, ring_shape([split], 100))
        pids = [*referee.pids("null"), referee.sender.group.pid]
        killer = threading.Timer(2.0, os.kill, (referee.sender.group.pid, 9))
        killer.start()
        with pytest.raises(SutFailure, match=r"The sender process ended \(was killed by signal SIGKILL\)"):
            referee.run_open("null", split, trace, 50.0, OpenLimits(limit_ns=MS))
    assert _gone(pids)


def test_a_payload_larger_than_a_slot_is_refused_before_it_is_sent(split: Split) -> None:
    small = ring_shape([split], 10)
    with Referee() as referee:
        referee.start_side("null", {"kind": "null"}, small)
        with pytest.raises(ValueError, match="asks for more than 10 samples"):
            referee.run_closed("null", split, sweep(split, 11))
