"""Segments of load in real processes: sender, slots, SUT. Queues against queueing theory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from harness.clock import now_ns, sleep_s
from harness.measurement.referee import OpenLimits, Referee, ring_shape
from harness.traffic.arrivals import make_trace, sweep
from harness.traffic.segment import Segment, Status
from zoo.schema import Split

pytestmark = pytest.mark.e2e
MS = 1_000_000


@pytest.fixture
def referee() -> Iterator[Referee]:
    with Referee() as running:
        yield running


def _synthetic(referee: Referee, split: Split, law: dict[str, object], **more: object) -> None:
    referee.start_side("sut", {"kind": "synthetic", "service": law, **more}, ring_shape([split], 100))


def _check_order(segment: Segment) -> None:
    """planned <= sent <= dequeued <= started <= done: four stamps of two processes on one clock."""
    assert (segment.planned_ns <= segment.sent_ns).all()
    assert (segment.sent_ns <= segment.dequeued_ns).all()
    assert (segment.dequeued_ns <= segment.started_ns).all()
    assert (segment.started_ns <= segment.done_ns).all()


def test_null_sut_answers_every_query_once(referee: Referee, split: Split) -> None:
    info = referee.start_side("null", {"kind": "null"}, ring_shape([split], 100))
    assert 0 < info.start_s < 60 and info.rss_bytes > 1_000_000
    trace = make_trace(1, 1000, "heavy", split.groups)
    segment = referee.run_open("null", split, trace, 1000.0, OpenLimits(limit_ns=1_000 * MS))
    assert segment.aborted == ""
    np.testing.assert_array_equal(segment.status, Status.ANSWERED)
    np.testing.assert_array_equal(segment.query_id, np.arange(1000))
    np.testing.assert_array_equal(segment.size, trace.sizes)
    np.testing.assert_array_equal(np.diff(segment.score_offsets), trace.sizes)
    assert (segment.scores == 0).all()
    _check_order(segment)
    np.testing.assert_array_equal(np.diff(segment.planned_ns), np.diff(trace.planned_ns(1000.0)))
    assert segment.sender_cpu_ns > 0


def test_service_time_is_a_floor_of_latency(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 5.0})
    trace = make_trace(2, 40, "heavy", split.groups)
    segment = referee.run_open("sut", split, trace, 40.0, OpenLimits(limit_ns=1_000 * MS))
    assert segment.latency_ns.min() >= 5 * MS
    assert len(segment.latency_ns) == 40
    _check_order(segment)
    assert (np.sort(segment.started_ns)[1:] >= np.sort(segment.done_ns)[:-1] - 5 * MS).all()


def test_one_worker_is_an_md1_queue(referee: Referee, split: Split) -> None:
    """Mean wait at half load against Pollaczek-Khinchine, E[W] = rate E[S^2] / (2 (1 - rate E[S])), with the moments
    of the service measured in the run; 4 standard errors of 20 batch means."""
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 4.0})
    rate = 125.0
    trace = make_trace(3, 1000, "fixed:10", split.groups)
    segment = referee.run_open("sut", split, trace, rate, OpenLimits(limit_ns=1_000 * MS))
    service_s = (segment.done_ns - segment.started_ns) * 1e-9
    wait_s = (segment.started_ns - segment.planned_ns) * 1e-9
    expected = rate * np.mean(service_s**2) / (2.0 * (1.0 - rate * service_s.mean()))
    batches = wait_s.reshape(20, -1).mean(axis=1)
    error = batches.std(ddof=1) / np.sqrt(20)
    assert abs(wait_s.mean() - expected) < 4.0 * error
    # Poisson arrivals see time averages (Wolff 1982): as many find the worker busy as it is busy. Those of a sender
    # that waits for answers never would.
    busy = segment.sent_ns[1:] < np.maximum.accumulate(segment.done_ns)[:-1]
    assert abs(busy.mean() - rate * service_s.mean()) < 0.1


def test_overload_stops_exactly_when_too_many_are_late(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 5.0})
    trace = make_trace(4, 4000, "fixed:10", split.groups)
    limits = OpenLimits(limit_ns=25 * MS, max_late=20)
    segment = referee.run_open("sut", split, trace, 400.0, limits)
    assert segment.aborted == "late"
    assert segment.late(25 * MS).sum() > 20
    sent = segment.sent_ns >= 0
    assert 20 < sent.sum() < 400
    np.testing.assert_array_equal(segment.status[~sent], Status.NOT_SENT)
    np.testing.assert_array_equal(np.isin(segment.status[sent], [Status.ANSWERED, Status.UNFINISHED]), True)

    calm = referee.run_open("sut", split, trace.cut(0, 20), 20.0, OpenLimits(limit_ns=1_000 * MS))
    np.testing.assert_array_equal(calm.status, Status.ANSWERED)


def test_late_queries_before_the_counted_part_do_not_stop_a_segment(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 5.0})
    trace = make_trace(5, 60, "fixed:10", split.groups)
    limits = OpenLimits(limit_ns=1, max_late=0, count_from=60)
    segment = referee.run_open("sut", split, trace, 100.0, limits)
    assert segment.aborted == ""
    assert segment.late(1).sum() == 60


def test_an_old_query_stops_a_segment(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 400.0})
    trace = make_trace(6, 500, "fixed:10", split.groups)
    segment = referee.run_open("sut", split, trace, 100.0, OpenLimits(limit_ns=25 * MS, max_age_ns=100 * MS))
    assert segment.aborted == "age"
    assert (segment.sent_ns >= 0).sum() < 100


def test_what_is_unfinished_at_the_deadline_is_late(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 300.0})
    trace = make_trace(7, 5, "fixed:10", split.groups)
    limits = OpenLimits(limit_ns=550 * MS, drain_ns=10 * MS)
    segment = referee.run_open("sut", split, trace, 1000.0, limits)
    assert segment.aborted == ""
    assert segment.status.tolist() == [Status.ANSWERED] + 4 * [Status.UNFINISHED]
    assert segment.late(550 * MS).tolist() == [False] + 4 * [True]


def test_the_closed_loop_keeps_its_number_in_flight(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 20.0}, workers=2)
    queries = make_trace(8, 30, "heavy", split.groups).queries(split.groups)
    for concurrency in (1, 2):
        segment = referee.run_closed("sut", split, queries, concurrency)
        np.testing.assert_array_equal(segment.status, Status.ANSWERED)
        edges = [(t, 1) for t in segment.sent_ns.tolist()] + [(t, -1) for t in segment.done_ns.tolist()]
        flight = np.cumsum([step for _, step in sorted(edges)])
        assert flight.max() == concurrency
        assert segment.latency_ns.min() >= 20 * MS
        assert (segment.planned_ns[concurrency:] >= np.sort(segment.done_ns)[:-concurrency]).all()


def test_the_closed_loop_ends_with_its_budget(referee: Referee, split: Split) -> None:
    _synthetic(referee, split, {"law": "fixed", "mean_ms": 20.0})
    queries = sweep(split, 50)
    segment = referee.run_closed("sut", split, queries, 1, budget_s=0.3)
    assert 1 <= len(segment) <= 15
    np.testing.assert_array_equal(segment.query_id, np.arange(len(segment)))


def test_a_sweep_returns_a_score_for_every_sample(referee: Referee, split: Split) -> None:
    referee.start_side("null", {"kind": "null"}, ring_shape([split], 100))
    segment = referee.run_closed("null", split, sweep(split, 100), 4)
    assert len(segment.scores) == len(split)
    np.testing.assert_array_equal(segment.status, Status.ANSWERED)


def test_sides_are_measured_in_turn_while_the_other_is_frozen(referee: Referee, split: Split) -> None:
    shape = ring_shape([split], 100)
    for name in ("baseline", "candidate"):
        referee.start_side(name, {"kind": "null"}, shape)
        referee.freeze(name)
    trace = make_trace(9, 100, "heavy", split.groups)
    for name, other in (("baseline", "candidate"), ("candidate", "baseline"), ("baseline", "candidate")):
        before = referee.cpu_ns(other)
        referee.thaw(name)
        segment = referee.run_open(name, split, trace, 500.0, OpenLimits(limit_ns=1_000 * MS))
        referee.freeze(name)
        np.testing.assert_array_equal(segment.status, Status.ANSWERED)
        assert referee.cpu_ns(other) == before
    with pytest.raises(ValueError, match="frozen"):
        referee.run_open("baseline", split, trace, 500.0, OpenLimits(limit_ns=MS))
    referee.stop_side("candidate")
    with pytest.raises(KeyError):
        referee.cpu_ns("candidate")


def test_queries_that_arrived_while_frozen_are_charged_from_their_planned_arrival(
    referee: Referee, split: Split
) -> None:
    """No coordinated omission: a pause of the SUT is in every latency that it covers."""
    referee.start_side("null", {"kind": "null"}, ring_shape([split], 100))
    trace = make_trace(10, 300, "fixed:5", split.groups)
    edges: list[int] = []

    def pause() -> None:
        sleep_s(0.5)
        referee.freeze("null")
        edges.append(now_ns())
        sleep_s(0.4)
        edges.append(now_ns())
        referee.thaw("null")

    thread = threading.Thread(target=pause)
    thread.start()
    segment = referee.run_open("null", split, trace, 200.0, OpenLimits(limit_ns=50 * MS))
    thread.join()
    covered = (segment.planned_ns > edges[0]) & (segment.planned_ns < edges[1] - 50 * MS)
    assert covered.sum() > 30  # 70 are expected in 0.35 s at 200 queries per second
    assert segment.late(50 * MS)[covered].all()
    np.testing.assert_array_equal(segment.status, Status.ANSWERED)
