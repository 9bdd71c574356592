"""Ratios from quads: Student's t on logs, A/A and known speed-ups by simulation, voids."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from scipy import stats as sps

from harness.estimate.comparison import (
    lbt_ratio,
    paired_service_ratio,
    quad_log_ratios,
    ratio_interval,
    void_quads,
)
from harness.estimate.lbt import LbtEstimate, estimate_lbt
from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import ServiceTable, simulate, unit_trace
from harness.trial import Sla

MS = 1e6
SLA = Sla(limit_ms=25.0)


@functools.cache
def _side(seed: int, scale: float, noise_seed: int, quads: int = 6) -> LbtEstimate:
    """A SUT of 5 ms times ``scale`` with 10 % service noise of its own, on the unit traces of ``seed``."""
    spread = np.exp(0.1 * sps.norm.ppf((np.arange(64) + 0.5) / 64))
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([5.0 * MS]), spread=spread / spread.mean())
    twin = QueueTwin(table=table, sizes=np.array([1]), probability=np.ones(1))
    centre, segments = twin.lbt_qps(SLA, scale), []
    for i in range(2 * quads):
        rate = centre * (1.12 if i % 2 else 0.93)
        n, rng = int(rate * 4), np.random.default_rng([noise_seed, i])
        arrivals = unit_trace(1200, np.array([1]), np.ones(1), seed * 100 + i)[0][:n] / rate
        latency = simulate(arrivals, 5 * MS * scale * np.exp(rng.normal(-0.005, 0.1, n)))
        segments.append(
            SegmentObservation(
                offered_qps=rate, trace_id=f"{seed}/{i}", quad=i // 2, planned_ns=arrivals, sizes=np.ones(n),
                latency_ns=latency, duration_s=4.0,
            )
        )  # fmt: skip
    return estimate_lbt(segments, twin, SLA)


def test_ratio_interval_is_students_t_on_logs() -> None:
    logs = [0.2, 0.25, 0.18, 0.22, 0.3, 0.21]
    low, high = sps.t.interval(0.95, 5, np.mean(logs), sps.sem(logs))
    got = ratio_interval(logs)
    assert (got.ratio, *got.ci) == pytest.approx((sps.gmean(np.exp(logs)), math.exp(low), math.exp(high)))
    assert got.p_value == pytest.approx(sps.ttest_1samp(logs, 0.0).pvalue)
    assert (got.call, got.quads) == ("gain", 6)
    assert ratio_interval([-x for x in logs]).call == "loss"
    assert ratio_interval([0.1, -0.1, 0.2, -0.2, 0.05, -0.04]).call == "no difference"
    assert ratio_interval(logs, degrees=2.0).ci[0] < got.ci[0]
    with pytest.raises(ValueError, match="at least 6 quads"):
        ratio_interval(logs[:5])


def test_equal_log_ratios_have_no_width() -> None:
    got = ratio_interval([0.0] * 6)
    assert (got.ratio, got.ci, got.p_value, got.call) == (1.0, (1.0, 1.0), 1.0, "no difference")


def test_a_side_against_itself_is_one_in_every_quad() -> None:
    side = _side(1, 1.0, 2)
    assert quad_log_ratios(side, side) == pytest.approx(np.zeros(6))
    interval = lbt_ratio(side, side).interval
    assert interval is not None and interval.call == "no difference"


def test_equal_sides_with_noise_of_their_own_are_rarely_told_apart() -> None:
    """A/A, 40 comparisons: 5 % may exclude 1; 7 would be more than 3 binomial standard errors too many."""
    ratios = [lbt_ratio(_side(s, 1.0, 1000 + s), _side(s, 1.0, 2000 + s)).interval for s in range(40)]
    found = [r for r in ratios if r is not None]
    assert len(found) >= 36
    assert sum(r.call != "no difference" for r in found) <= 6
    logs = np.array([math.log(r.ratio) for r in found])
    assert abs(logs.mean()) < 3 * logs.std(ddof=1) / math.sqrt(logs.size)


def test_a_known_speed_up_is_found_with_its_size() -> None:
    """20 % less service time at an absolute limit: the exact ratio of LBTs is known; 95 % of 20 intervals hold it."""
    twin_ratio = []
    spread = np.exp(0.1 * sps.norm.ppf((np.arange(64) + 0.5) / 64))
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([5.0 * MS]), spread=spread / spread.mean())
    twin = QueueTwin(table=table, sizes=np.array([1]), probability=np.ones(1))
    truth = twin.lbt_qps(SLA, 0.8) / twin.lbt_qps(SLA, 1.0)
    for seed in range(20):
        interval = lbt_ratio(_side(seed, 1.0, 1000 + seed), _side(seed, 0.8, 4000 + seed)).interval
        assert interval is not None and interval.call == "gain"
        twin_ratio.append(interval)
    assert sum(r.ci[0] <= truth <= r.ci[1] for r in twin_ratio) >= 17
    assert np.mean([math.log(r.ratio / truth) for r in twin_ratio]) == pytest.approx(0.0, abs=0.01)


def test_no_ratio_without_two_estimates() -> None:
    side = _side(3, 1.0, 3)
    for status, lbt, reason in [("unreachable", 0.0, "at no rate"), ("above_range", 80.0, "above_range")]:
        other = dataclasses.replace(side, status=status, lbt_qps=lbt, ci=None)
        got = lbt_ratio(side, other)
        assert got.interval is None and "candidate" in got.reason and reason in got.reason
        assert "baseline" in lbt_ratio(other, side).reason


def test_no_ratio_from_unequal_or_too_few_quads() -> None:
    side = _side(3, 1.0, 3)
    five = _side(3, 1.0, 3, quads=5)
    assert "unequal quads" in lbt_ratio(side, five).reason
    few = lbt_ratio(five, dataclasses.replace(five, lbt_qps=2 * five.lbt_qps))
    assert (few.interval, few.reason) == (None, "5 quads, no interval: that takes at least 6") and few.indicative == 2.0
    blind = dataclasses.replace(side, quad_information=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    found = lbt_ratio(side, blind)
    assert (found.interval, found.indicative, found.reason) == (None, None, "too few of the 6 quads hold late queries")


def test_few_clumps_double_the_ratios_interval() -> None:
    a, b = _side(4, 1.0, 4), _side(4, 0.97, 5)
    assert a.status == b.status == "ok"
    sound, wide = (lbt_ratio(dataclasses.replace(a, status=s), b).interval for s in ("ok", "few_clumps"))
    assert sound is not None and wide is not None
    assert math.log(wide.ci[1] / wide.ci[0]) == pytest.approx(2 * math.log(sound.ci[1] / sound.ci[0]))
    assert wide.p_value > sound.p_value


def test_regression_on_one_side_adds_both_intervals() -> None:
    a, b = _side(5, 1.0, 6), _side(5, 0.9, 7)
    b = dataclasses.replace(b, method="regression", ci=(0.9 * b.lbt_qps, 1.2 * b.lbt_qps))
    interval = lbt_ratio(a, b).interval
    assert interval is not None and a.ci is not None
    half = math.hypot(math.log(a.ci[1] / a.lbt_qps), math.log(1.2))
    assert math.log(interval.ci[1] / interval.ratio) == pytest.approx(half, rel=1e-6)


def test_service_ratio_is_paired_by_query() -> None:
    """Sizes differ by a factor of 50 between queries, which pairing removes; one stalled answer moves nothing."""
    rng = np.random.default_rng(8)
    baseline = [rng.uniform(1, 50, 40) * MS for _ in range(6)]
    candidate = [b / 1.25 * np.exp(rng.normal(0, 0.01, 40)) for b in baseline]
    candidate[0][3] *= 100
    got = paired_service_ratio(baseline, candidate)
    assert got.ratio == pytest.approx(1.25, rel=0.005)
    assert got.ci[0] < 1.25 < got.ci[1] and got.ci[1] / got.ci[0] < 1.02 and got.call == "gain"


def test_void_quads_up_to_a_quarter() -> None:
    clean: dict[int, list[str]] = {q: [] for q in range(8)}
    two = void_quads({**clean, 3: ["steal 4 %"], 6: ["null p99 9 ms", "steal 2 %"]}, 8)
    assert (two.kept, two.voided, two.noisy_host) == ((0, 1, 2, 4, 5, 7), (3, 6), False)
    three = void_quads({**clean, 3: ["steal"], 6: ["steal"], 7: ["steal"]}, 8)
    assert (three.kept, three.voided, three.noisy_host) == (tuple(range(8)), (3, 6, 7), True)


def test_quads_that_ran_again_do_not_dilute_the_void_ones() -> None:
    clean: dict[int, list[str]] = {q: [] for q in range(12)}
    three_of_ten = void_quads({**clean, 3: ["steal"], 6: ["steal"], 7: ["steal"]}, 10)
    assert three_of_ten.noisy_host
    assert not void_quads({**clean, 3: ["steal"], 6: ["steal"]}, 10).noisy_host
