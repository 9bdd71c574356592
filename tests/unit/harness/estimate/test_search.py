"""The search for a side's rate against simulated systems."""

import dataclasses
import math

import numpy as np
import pytest

from harness.estimate import mg1
from harness.estimate.longrun import QueueTwin
from harness.estimate.matched_twin import CrossingPoint
from harness.estimate.replay import SegmentObservation
from harness.estimate.search import PROBE_STEP, futility_limits, next_rate, quad_rates, steer, time_shares
from harness.estimate.twin import ServiceTable, simulate, unit_trace
from harness.trial import Sla

MS = 1e6
SLA = Sla(limit_ms=25.0)
TRUTH = mg1.lbt_qps(mg1.service_atoms(np.array([5 * MS]), np.ones(1)), 25 * MS, 0.01)


def _twin(mean_ms: float) -> QueueTwin:
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([mean_ms * MS]), spread=np.ones(1))
    return QueueTwin(table=table, sizes=np.array([1]), probability=np.ones(1))


def _offer(rate: float, seed: int, seconds: float = 5.0, quad: int = -1) -> SegmentObservation:
    """A SUT of exactly 5 ms."""
    n = int(rate * seconds)
    arrivals = unit_trace(n, np.array([1]), np.ones(1), seed)[0] / rate
    return SegmentObservation(
        offered_qps=rate, trace_id=str(seed), quad=quad, planned_ns=arrivals, sizes=np.ones(n),
        latency_ns=simulate(arrivals, np.full(n, 5 * MS)), duration_s=seconds,
    )  # fmt: skip


def test_the_first_rate_is_the_twins_own() -> None:
    first = next_rate([], _twin(5.0), SLA)
    assert first.action == "probe" and first.rate_qps == pytest.approx(TRUTH, rel=1e-4)


def test_where_an_idle_server_is_late_one_probe_decides() -> None:
    """26 ms by the closed loop is above the limit of 25 ms. The system takes 30 ms: stop; or 5 ms, and the host was
    held up before: its LBT is found."""
    first = next_rate([], _twin(26.0), SLA)
    assert first.action == "probe" and first.rate_qps == pytest.approx(0.2 * 1000.0 / 26.0)
    probe = _offer(first.rate_qps, 1, 60.0)
    slow = dataclasses.replace(probe, latency_ns=simulate(probe.planned_ns, np.full(probe.sizes.size, 30 * MS)))
    assert next_rate([slow], _twin(26.0), SLA).action == "stop"
    assert next_rate([dataclasses.replace(slow, aborted=True)], _twin(26.0), SLA).action == "stop"
    few = dataclasses.replace(_offer(first.rate_qps, 2), aborted=True)
    assert next_rate([few], _twin(26.0), SLA).action == "probe"
    assert next_rate([probe], _twin(26.0), SLA).rate_qps == pytest.approx(PROBE_STEP * first.rate_qps)
    probes = [probe]
    while (decision := next_rate(probes, _twin(26.0), SLA)).action == "probe":
        probes.append(_offer(decision.rate_qps, 3 + len(probes)))
    assert decision.rate_qps > 3.0 * first.rate_qps


def test_a_stall_in_the_closed_loop_does_not_condemn_a_system() -> None:
    """One closed-loop answer in fifty took 60 ms: the noise alone would break the SLA, the open loop must decide."""
    twin = _twin(5.0)
    stalled = np.append(np.full(49, 5.0), 60.0)
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([6.1 * MS]), spread=stalled / stalled.mean())
    twin = dataclasses.replace(twin, table=table)
    assert twin.lbt_qps(SLA) == 0.0
    first = next_rate([], twin, SLA)
    assert first.action == "probe" and first.rate_qps == pytest.approx(_twin(6.1).lbt_qps(SLA), rel=1e-6)


@pytest.mark.parametrize("error", [0.6, 0.85, 1.0, 1.3])
def test_probes_reach_the_crossing_whatever_the_first_guess(error: float) -> None:
    """The closed-loop table is off by up to 40 %: within 6 probes the refined rate is within 6 % of the truth."""
    for seed in range(5):
        probes: list[SegmentObservation] = []
        twin = _twin(5.0 * error)
        while (decision := next_rate(probes, twin, SLA)).action == "probe":
            if probes:
                step = decision.rate_qps / probes[-1].offered_qps
                assert 1 / PROBE_STEP - 1e-9 <= step <= PROBE_STEP + 1e-9
            probe = _offer(decision.rate_qps, 50 * seed + len(probes))
            late = int((probe.latency_ns > 25 * MS).sum())
            limit = futility_limits(twin, SLA, probe.sizes.size).late_queries
            probes.append(dataclasses.replace(probe, aborted=late > limit))
        assert decision.action == "refine" and len(probes) <= 6
        assert decision.rate_qps == pytest.approx(TRUTH, rel=0.06)


def test_an_aborted_probe_steps_down_and_a_quiet_one_up() -> None:
    """Five queries a second say too little of the work: only the step decides."""
    aborted = dataclasses.replace(_offer(5.0, 1), aborted=True)
    assert next_rate([aborted], _twin(5.0), SLA).rate_qps == pytest.approx(5.0 / PROBE_STEP)
    quiet = _offer(5.0, 2)
    assert next_rate([quiet], _twin(5.0), SLA).rate_qps == pytest.approx(5.0 * PROBE_STEP)


def test_a_probe_without_a_late_query_shows_the_crossing_by_its_work() -> None:
    """At 70 % of the LBT nothing is late, but every answer shows 5 ms of work: a twin of 6 ms is put right."""
    probe = _offer(0.8 * TRUTH, 3)
    assert (probe.latency_ns > 25 * MS).mean() < 0.01
    assert next_rate([probe], _twin(6.0), SLA).rate_qps == pytest.approx(TRUTH, rel=0.01)


def test_an_aborted_probe_steers_by_its_work() -> None:
    aborted = dataclasses.replace(_offer(1.1 * TRUTH, 4), aborted=True)
    assert next_rate([aborted], _twin(6.0), SLA).rate_qps == pytest.approx(
        1.1 * TRUTH / math.sqrt(PROBE_STEP), rel=0.01
    )


def test_the_next_speed_is_expected_halfway_between_the_last_and_the_mean() -> None:
    """A host that was 20 % slower in the last of two equal quads: 5 ms, then 6 ms."""
    first = [_offer(90.0, 10 + i, 20.0, quad=0) for i in range(2)]
    slow = [
        dataclasses.replace(s, quad=1, latency_ns=simulate(s.planned_ns, np.full(s.sizes.size, 6 * MS)))
        for s in (_offer(90.0, 20 + i, 20.0) for i in range(2))
    ]
    found = steer([*first, *slow], _twin(5.0), SLA)
    service = found.twin.table.mean_ns[0] * math.exp(found.log_scale)
    assert service == pytest.approx(math.sqrt(30.0) * MS * (6 / 5) ** 0.25, rel=0.02)


def test_futility_limits() -> None:
    limits = futility_limits(_twin(5.0), SLA, 1000)
    assert (limits.late_queries, limits.oldest_ns, limits.outstanding) == (50, 100_000_000, 64)
    assert futility_limits(_twin(1.0), Sla(limit_ms=100.0), 20).late_queries == 3
    assert futility_limits(_twin(1.0), Sla(limit_ms=100.0), 20).outstanding == 400


def test_quad_rates_stand_on_both_sides_of_the_rescaled_crossing() -> None:
    """The twin is 20 % too slow; after one segment both rates follow the SUT: late fractions of 0.6 % and 1.5 %."""
    done = [_offer(TRUTH, 3, 20.0)]
    low, high = quad_rates(done, _twin(6.0), SLA, 77.0, 0)
    assert low < TRUTH < high
    slope = _twin(5.0).log_slope(TRUTH, SLA)
    assert math.log(high / low) == pytest.approx(math.log(2.5) / slope, rel=0.1)
    after_one_quad = [*done, _offer(low, 4, quad=0), _offer(high, 5, quad=0)]
    rates = [quad_rates(after_one_quad, _twin(6.0), SLA, 77.0, place) for place in range(6)]
    assert [first < second for first, second in rates] == [True, True, False, False, True, True]
    assert all(min(pair) < TRUTH * 1.01 and max(pair) > TRUTH * 0.99 for pair in rates)


def test_quad_rates_use_the_centre_until_something_was_seen() -> None:
    low, high = quad_rates([], _twin(5.0), SLA, 90.0, 0)
    assert low < 90.0 < high


def test_with_a_crossing_the_rates_stand_around_it_and_follow_the_host() -> None:
    """A twin of 6 ms and segments that say 5 ms do not count beside it; a host that was 20 % slower in the last quad is
    followed half the way."""
    done = [_offer(TRUTH * f, 30 + i, 20.0, quad=i // 2) for i, f in enumerate((0.98, 1.02, 1.02, 0.98))]
    moved = CrossingPoint(log_lbt=math.log(40.0), recent_log_lbt=math.log(40.0), slope=10.0)
    high, low = quad_rates(done, _twin(6.0), SLA, 77.0, 2, moved)
    assert (low, high) == pytest.approx((40.0 * 0.6**0.1, 40.0 * 1.5**0.1), rel=1e-9)
    slower = dataclasses.replace(moved, recent_log_lbt=math.log(40.0 / 1.2))
    assert quad_rates(done, _twin(6.0), SLA, 77.0, 2, slower)[1] == pytest.approx(low / math.sqrt(1.2), rel=1e-9)


def test_the_side_with_more_spread_gets_more_time() -> None:
    assert time_shares(1.0, 1.0) == (0.5, 0.5)
    assert time_shares(0.0, 0.0) == (0.5, 0.5)
    assert time_shares(3.0, 2.0) == pytest.approx((0.6, 0.4))
    assert time_shares(9.0, 1.0) == pytest.approx((0.7, 0.3))
    assert time_shares(math.inf, 1.0) == pytest.approx((0.7, 0.3))
    assert time_shares(1.0, math.inf) == pytest.approx((0.3, 0.7))
    assert time_shares(math.inf, math.inf) == (0.5, 0.5)
    # Shares in proportion to the spread minimise a^2 / x + b^2 / (1 - x).
    shares = np.linspace(0.31, 0.69, 381)
    assert shares[np.argmin(3.0**2 / shares + 2.0**2 / (1 - shares))] == pytest.approx(0.6, abs=1e-3)
