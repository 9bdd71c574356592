"""The LBT estimator against simulated systems whose truth is known in closed form."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats as sps

from harness.estimate import mg1
from harness.estimate.lbt import LbtEstimate, estimate_lbt
from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import ServiceTable, fit_service_table, simulate, unit_trace
from harness.traffic.query_sizes import pmf
from harness.trial import Sla

MS = 1e6
ONE, SURE = np.array([1]), np.ones(1)
SLACK5 = Sla(limit_ms=25.0)
MD1_TRUTH = mg1.lbt_qps(mg1.service_atoms(np.array([5 * MS]), SURE), 25 * MS, 0.01)


def _log_normal(rng: np.random.Generator, n: int, sd: float) -> np.ndarray:
    return np.exp(rng.normal(-(sd**2) / 2, sd, n))


def _truth(sd: float, sla: Sla) -> float:
    """LBT of 5 ms service with log-normal noise, by the exact M/G/1 on 20,000 quantiles."""
    bands = np.exp(sd * sps.norm.ppf((np.arange(20_000) + 0.5) / 20_000) - sd**2 / 2)
    return mg1.lbt_qps(mg1.service_atoms(5 * MS * bands, np.full(20_000, 1 / 20_000)), sla.limit_ms * MS, 0.01)


def _twin(sd: float, seed: int, error: float = 1.0) -> QueueTwin:
    """A twin from 400 closed-loop samples, whose service may be off by a factor."""
    samples = 5 * MS * error * _log_normal(np.random.default_rng(seed), 400, sd)
    return QueueTwin(table=fit_service_table(np.ones(400), samples), sizes=ONE, probability=SURE)


def _segments(rates: list[float], seconds: float, sd: float, seed: int) -> list[SegmentObservation]:
    out = []
    for i, rate in enumerate(rates):
        n, rng = int(rate * seconds), np.random.default_rng([seed, i])
        arrivals = unit_trace(n, ONE, SURE, seed * 100 + i)[0] / rate
        latency = simulate(arrivals, 5 * MS * _log_normal(rng, n, sd))
        out.append(
            SegmentObservation(
                offered_qps=rate, trace_id=f"{seed}/{i}", quad=i // 2, planned_ns=arrivals, sizes=np.ones(n),
                latency_ns=latency, duration_s=seconds,
            )
        )  # fmt: skip
    return out


def _around(rate: float, count: int, span: float = 0.1) -> list[float]:
    return [rate * (1 + span * (1 if i % 2 else -0.7)) for i in range(count)]


def _study(sd: float, repeats: int, error: float) -> tuple[float, list[LbtEstimate]]:
    truth = _truth(sd, SLACK5)
    twins = (_twin(sd, 10_000 + r, error) for r in range(repeats))
    segments = (_segments(_around(truth, 12), 4.0, sd, 1 + r) for r in range(repeats))
    return truth, [estimate_lbt(s, t, SLACK5) for s, t in zip(segments, twins, strict=True)]


@pytest.mark.parametrize(("sd", "largest_sd"), [(0.05, 0.012), (0.15, 0.03)])
def test_estimate_is_unbiased_and_its_interval_covers(sd: float, largest_sd: float) -> None:
    """12 segments of 4 s, a closed-loop table 12 % too fast: bias within 3 standard errors + 0.5 %, coverage >= 85 %
    of 40 (95 % less 3 binomial standard errors), nine in ten estimates by the twin."""
    truth, estimates = _study(sd, 40, error=0.88)
    sound = [e for e in estimates if e.status in ("ok", "few_clumps")]
    assert len(sound) >= 38 and np.mean([e.method == "twin" for e in sound]) >= 0.9
    errors = np.array([math.log(e.lbt_qps / truth) for e in sound if e.lbt_qps])
    inside = np.mean([e.ci[0] <= truth <= e.ci[1] for e in sound if e.ci])
    assert abs(errors.mean()) < 0.005 + 3 * errors.std(ddof=1) / math.sqrt(errors.size)
    assert errors.std(ddof=1) < largest_sd
    assert inside >= 0.85
    assert np.median([e.service_scale for e in sound]) == pytest.approx(1 / 0.88, rel=0.02)


def test_noise_that_the_twin_cannot_explain_falls_back_to_regression() -> None:
    """The SUT's latencies are those of other traces: nothing correlates, so the late counts alone decide."""
    rates = _around(MD1_TRUTH, 12)
    segments, others = (_segments(rates, 12.0, 0.0, seed) for seed in (3, 4))
    mixed = [
        dataclasses.replace(s, latency_ns=o.latency_ns[: s.latency_ns.size])
        for s, o in zip(segments, others, strict=True)
    ]
    got = estimate_lbt(mixed, _twin(0.01, 1), SLACK5)
    assert got.method == "regression" and got.correlation < 0.5
    assert got.ci is not None and got.ci[0] < MD1_TRUTH < got.ci[1]
    assert math.log(got.ci[1] / got.ci[0]) / 2 > 0.02


def test_few_clumps_double_the_interval() -> None:
    """At slack 20 four segments of 6 s hold a handful of long clumps; the interval is wide and holds the truth."""
    sla = Sla(limit_ms=100.0)
    truth = _truth(0.15, sla)
    found = [estimate_lbt(_segments(_around(truth, 8, 0.03), 6.0, 0.15, s), _twin(0.15, s), sla) for s in range(20)]
    few = [e for e in found if e.status == "few_clumps"]
    assert len(few) >= 8 and all(e.clumps < 10 for e in few)
    assert all(e.ci[0] <= truth <= e.ci[1] for e in few if e.ci)
    assert all(e.ci is None for e in found if e.status not in ("ok", "few_clumps"))


def test_a_root_beyond_the_measured_rates_is_not_reported() -> None:
    low = estimate_lbt(_segments(_around(0.6 * MD1_TRUTH, 6), 20.0, 0.0, 5), _twin(0.01, 1), SLACK5)
    assert (low.status, low.ci) == ("above_range", None)
    assert low.lbt_qps == pytest.approx(0.6 * MD1_TRUTH * 1.1)
    high = estimate_lbt(_segments(_around(1.4 * MD1_TRUTH, 6), 5.0, 0.0, 5), _twin(0.01, 1), SLACK5)
    assert (high.status, high.lbt_qps, high.ci) == ("undetermined", None, None)
    widened = estimate_lbt(
        _segments(_around(1.15 * MD1_TRUTH, 6), 20.0, 0.0, 5), _twin(0.01, 1), SLACK5, (100.0, 140.0)
    )
    assert widened.status == "ok" and widened.lbt_qps == pytest.approx(MD1_TRUTH, rel=0.02)


def test_nothing_near_the_limit_is_above_range_and_all_late_is_undetermined() -> None:
    quiet = _segments([2.0, 2.2, 2.4], 10.0, 0.0, 6)
    assert estimate_lbt(quiet, _twin(0.01, 1), SLACK5).status == "above_range"
    dead = [dataclasses.replace(s, latency_ns=np.full(s.sizes.size, np.inf)) for s in quiet]
    got = estimate_lbt(dead, _twin(0.01, 1), SLACK5)
    assert (got.status, got.lbt_qps, got.late, got.clumps) == ("undetermined", None, got.queries, 3)


def test_a_limit_below_the_service_time_is_unreachable() -> None:
    sla = Sla(limit_ms=5.5)
    segments = _segments([2.0, 2.4, 2.8, 3.2], 30.0, 0.15, 7)
    got = estimate_lbt(segments, _twin(0.15, 2), sla)
    assert (got.status, got.lbt_qps, got.ci) == ("unreachable", 0.0, None)


def test_a_stall_in_the_closed_loop_does_not_make_a_sound_system_unreachable() -> None:
    twin = _twin(0.01, 1)
    spread = np.append(np.full(49, 1.0), 12.0)
    stalled = dataclasses.replace(twin, table=dataclasses.replace(twin.table, spread=spread / spread.mean()))
    assert stalled.lbt_qps(SLACK5) == 0.0
    got = estimate_lbt(_segments(_around(MD1_TRUTH, 12), 10.0, 0.0, 11), stalled, SLACK5)
    assert got.status == "ok" and got.lbt_qps == pytest.approx(MD1_TRUTH, rel=0.01)


def test_unanswered_queries_lower_the_estimate() -> None:
    """An error never improves a number: dropping 2 % of the answers must cost throughput."""
    segments, rng = _segments(_around(MD1_TRUTH, 12), 10.0, 0.0, 8), np.random.default_rng(9)
    dropped = [
        dataclasses.replace(s, latency_ns=np.where(rng.random(s.sizes.size) < 0.02, np.inf, s.latency_ns))
        for s in segments
    ]
    whole = estimate_lbt(segments, _twin(0.01, 1), SLACK5)
    holed = estimate_lbt(dropped, _twin(0.01, 1), SLACK5)
    assert whole.lbt_qps == pytest.approx(MD1_TRUTH, rel=0.01)
    assert holed.lbt_qps is None or holed.lbt_qps < 0.95 * whole.lbt_qps


def test_heavy_tailed_sizes_and_two_workers() -> None:
    """The SUT is two workers on 'heavy' sizes, exactly the twin but 10 % slower."""
    sizes, probability = np.arange(1, 101), pmf("heavy")[1:]
    table = ServiceTable(sizes=np.array([1.0, 100.0]), mean_ns=np.array([1.0, 16.0]) * MS, spread=np.ones(1))
    twin = QueueTwin(table=table, sizes=sizes, probability=probability, workers=2)
    sla = Sla(limit_ms=40.0)
    truth = twin.lbt_qps(sla, 1.1)
    segments = []
    for i, rate in enumerate(_around(truth, 8)):
        arrivals, n = unit_trace(int(8 * rate), sizes, probability, 900 + i)
        latency = simulate(arrivals / rate, 1.1 * table.mean(n), 2)
        segments.append(
            SegmentObservation(
                offered_qps=rate, trace_id=str(i), quad=i // 2, planned_ns=arrivals / rate, sizes=n,
                latency_ns=latency, duration_s=8.0,
            )
        )  # fmt: skip
    got = estimate_lbt(segments, twin, sla)
    assert got.status == "ok" and got.service_scale == pytest.approx(1.1, rel=1e-3)
    assert got.lbt_qps == pytest.approx(truth, rel=1e-3)


def test_two_whole_segments_are_the_least() -> None:
    segments = _segments([100.0, 110.0], 4.0, 0.0, 10)
    with pytest.raises(ValueError, match="at least 2 whole segments"):
        estimate_lbt([segments[0], dataclasses.replace(segments[1], aborted=True)], _twin(0.01, 1), SLACK5)


def test_one_quad_has_an_estimate_and_nothing_without_it() -> None:
    rate = _truth(0.15, SLACK5)
    estimate = estimate_lbt(_segments([rate, 1.05 * rate], 20.0, 0.15, 3), _twin(0.15, 3), SLACK5)
    assert estimate.quads == (0,) and np.isnan(estimate.log_lbt_without).tolist() == [True]
    assert np.exp(estimate.log_lbt) == pytest.approx(rate, rel=0.15)
