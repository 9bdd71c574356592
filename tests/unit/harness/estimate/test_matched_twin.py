"""Where the crossing lies, against queues whose LBT is known in closed form, and beside the whole estimate."""

import dataclasses
import math

import numpy as np
import pytest

from harness.estimate import mg1
from harness.estimate.lbt import estimate_lbt
from harness.estimate.longrun import QueueTwin
from harness.estimate.matched_twin import Unmatched, locate_crossing, match_twin
from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import ServiceTable, simulate, unit_trace
from harness.trial import Sla
from optimizations.contract import Dispatch

MS = 1e6
SLA = Sla(limit_ms=25.0)
TWIN = QueueTwin(
    table=ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([6 * MS]), spread=np.ones(1)),
    sizes=np.array([1]),
    probability=np.ones(1),
)
"""A fifth slower than the system, as a closed loop may be."""


def _truth(service_ms: float) -> float:
    return mg1.lbt_qps(mg1.service_atoms(np.array([service_ms * MS]), np.ones(1)), SLA.limit_ms * MS, 0.01)


def _segment(number: int, rate: float, service_ms: float) -> SegmentObservation:
    """A M/D/1 queue for 30 s."""
    n = int(rate * 30.0)
    arrivals = unit_trace(n, np.array([1]), np.ones(1), 40 + number)[0] / rate
    return SegmentObservation(
        offered_qps=rate, trace_id=str(number), quad=number // 2, planned_ns=arrivals, sizes=np.ones(n),
        latency_ns=simulate(arrivals, np.full(n, service_ms * MS)), duration_s=30.0,
    )  # fmt: skip


def _around(service_ms: float, numbers: range) -> list[SegmentObservation]:
    return [_segment(i, _truth(service_ms) * (0.95 if i % 2 else 1.05), service_ms) for i in numbers]


def test_the_crossing_is_that_of_the_queue_and_of_the_whole_estimate() -> None:
    segments = _around(5.0, range(8))
    at, estimate = locate_crossing(segments, TWIN, SLA), estimate_lbt(segments, TWIN, SLA)
    assert at is not None and estimate.status == "ok"
    assert math.exp(at.log_lbt) == pytest.approx(_truth(5.0), rel=0.01)
    assert math.exp(at.recent_log_lbt) == pytest.approx(_truth(5.0), rel=0.01)
    rates = _truth(5.0) * np.array([0.98, 1.02])
    atoms = mg1.service_atoms(np.array([5 * MS]), np.ones(1))
    late = [float(mg1.late_fraction(atoms, float(rate), SLA.limit_ms * MS)) for rate in rates]
    assert at.slope == pytest.approx(math.log(late[1] / late[0]) / math.log(rates[1] / rates[0]), rel=0.05)
    assert (math.log(estimate.lbt_qps or math.nan), estimate.log_lbt, estimate.slope) == pytest.approx(
        (at.log_lbt, at.log_lbt, at.slope), rel=1e-12
    )


def test_the_recent_crossing_is_at_the_speed_of_the_last_quad() -> None:
    """Three quads at 5 ms, one at 5.5: the mean is a quarter of the way (by logs), the last quad all of it."""
    segments = [*_around(5.0, range(6)), *_around(5.5, range(6, 8))]
    at = locate_crossing(segments, TWIN, SLA)
    assert at is not None
    quick, slow = math.log(_truth(5.0)), math.log(_truth(5.5))
    assert at.log_lbt == pytest.approx(quick + 0.25 * (slow - quick), abs=0.02)
    assert at.recent_log_lbt == pytest.approx(slow, abs=0.02)
    assert slow < quick - 0.08


def test_there_is_no_crossing_where_every_query_of_an_idle_system_is_late() -> None:
    segments = [_segment(i, 2.0, 30.0) for i in range(4)]
    assert locate_crossing(segments, TWIN, SLA) is None
    assert estimate_lbt(segments, TWIN, SLA).lbt_qps in (0.0, None)


def test_aborted_segments_do_not_count() -> None:
    whole = _around(5.0, range(4))
    cut = [*whole, dataclasses.replace(_segment(9, 300.0, 5.0), aborted=True)]
    assert locate_crossing(cut, TWIN, SLA) == locate_crossing(whole, TWIN, SLA)
    with pytest.raises(ValueError, match="at least 2 whole segments, got 1 of 2"):
        match_twin(cut[3:], TWIN, SLA)
    assert locate_crossing(cut[3:], TWIN, SLA) is None


@pytest.mark.parametrize(("rate", "service_ms", "log_scale"), [(1.0, 5.0, -math.inf), (40.0, 50.0, math.inf)])
def test_where_the_work_is_unknown_late_queries_alone_decide(rate: float, service_ms: float, log_scale: float) -> None:
    """A system that works ahead (``stage``), never near its limit, or hopeless: no scale fits."""
    staged = dataclasses.replace(TWIN, dispatch=Dispatch(stage=True))
    segments = [_segment(i, rate, service_ms) for i in range(4)]
    found = match_twin(segments, staged, SLA)
    assert isinstance(found, Unmatched) and found.log_scale == log_scale
    assert locate_crossing(segments, staged, SLA) is None
