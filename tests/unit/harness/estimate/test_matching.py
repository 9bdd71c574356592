"""Matching the twin to a simulated SUT on the same traces."""

import dataclasses
import math

import numpy as np
import pytest

from harness.estimate.longrun import QueueTwin
from harness.estimate.matching import TwinFit, fit_scale, free_scale
from harness.estimate.replay import Replay, SegmentObservation, lateness
from harness.estimate.twin import ServiceTable, simulate, unit_trace
from harness.trial import Sla

MS = 1e6
LIMIT_NS = 25 * MS
SLA = Sla(limit_ms=25.0)
ONE = np.array([1])
PRIOR_SD = 0.01


def _twin(spread: np.ndarray | None = None) -> QueueTwin:
    noise = np.ones(1) if spread is None else spread / spread.mean()
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([5 * MS]), spread=noise)
    return QueueTwin(table=table, sizes=ONE, probability=np.ones(1))


def _fit(segments: list[SegmentObservation], twin: QueueTwin, prior_sd: float = 0.0) -> TwinFit:
    log_rates = np.log([s.offered_qps for s in segments])

    def distance(log_scale: float) -> np.ndarray:
        return log_rates - math.log(twin.lbt_qps(SLA, math.exp(log_scale)))

    return fit_scale(Replay(segments, twin, LIMIT_NS), prior_sd, distance)


def _free(segments: list[SegmentObservation], twin: QueueTwin) -> float:
    return free_scale(Replay(segments, twin, LIMIT_NS), prior_sd=0.0)


def _segments(count: int, scale: float, seed: int, noise: float = 0.0) -> list[SegmentObservation]:
    """Segments of 6 s at 112 queries/s whose SUT serves in 5 ms times ``scale``, with log-normal noise."""
    out = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        arrivals = unit_trace(672, ONE, np.ones(1), seed * 1000 + i)[0] / 112.0
        service = 5 * MS * scale * np.exp(rng.normal(-(noise**2) / 2, noise, 672))
        out.append(
            SegmentObservation(
                offered_qps=112.0, trace_id=f"{seed}-{i}", quad=i // 2, planned_ns=arrivals, sizes=np.ones(672),
                latency_ns=simulate(arrivals, service), duration_s=6.0,
            )
        )  # fmt: skip
    return out


def test_lateness_is_a_ramp_in_log_latency_around_the_limit() -> None:
    latency = LIMIT_NS * np.exp([-1.0, -0.25, -0.125, 0.0, 0.125, 0.25, 1.0])
    assert lateness(latency, LIMIT_NS) == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1])
    assert lateness(np.array([np.inf]), LIMIT_NS).tolist() == [1.0]


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.07, 1.4])
def test_a_sut_that_is_a_scaled_twin_is_found_exactly(scale: float) -> None:
    segments = _segments(6, scale, 1)
    fit = _fit(segments, _twin())
    assert math.exp(fit.log_scale) == pytest.approx(scale, abs=2e-4)
    assert np.exp(fit.without_segment) == pytest.approx(np.full(6, scale), abs=2e-3)
    assert np.exp(fit.without_quad) == pytest.approx(np.full(3, scale), abs=2e-3)
    assert fit.correlation == pytest.approx(1.0, abs=1e-4)
    assert fit.information_quad.sum() == pytest.approx(fit.information_segment.sum())
    assert _free(segments, _twin()) == pytest.approx(fit.log_scale, abs=1e-4)


def test_roots_without_a_unit_are_the_roots_of_the_rest() -> None:
    """Against fitting five of six segments afresh, with noise that the twin does not know."""
    segments, twin = _segments(6, 1.05, 2, noise=0.15), _twin()
    fit = _fit(segments, twin)
    for left_out in range(6):
        rest = [s for i, s in enumerate(segments) if i != left_out]
        assert fit.without_segment[left_out] == pytest.approx(_fit(rest, twin).log_scale, abs=2e-3)


def test_the_first_second_loads_the_queue_but_does_not_count() -> None:
    segments = _segments(4, 1.0, 3)
    replay = Replay(segments, _twin(), LIMIT_NS)
    by_hand = [lateness(s.latency_ns[s.planned_ns >= 1e9], LIMIT_NS).sum() for s in segments]
    assert replay.real == pytest.approx(by_hand)
    assert replay.twin(0.0) == pytest.approx(by_hand, abs=1e-9)


def test_a_twin_that_knows_the_noise_is_not_biased_by_it() -> None:
    """30 % service noise: knowing its distribution, not its values, leaves a mean error within 4 standard errors."""
    spread = np.exp(np.random.default_rng(4).normal(0, 0.3, 4000))
    spread = np.array([chunk.mean() for chunk in np.array_split(np.sort(spread), 64)])
    scales = np.array([_free(_segments(6, 1.0, 100 + i, 0.3), _twin(spread)) for i in range(60)])
    assert abs(scales.mean()) < 4 * scales.std(ddof=1) / math.sqrt(60)
    assert scales.std(ddof=1) < 0.05


def test_a_drift_of_the_scale_with_the_rate_cancels_at_the_crossing() -> None:
    """A SUT that is 10 % slower per 10 % more rate, as no twin is: the scale found is the one at the crossing."""
    segments = []
    for i in range(12):
        rate = 112.157 * (1.08 if i % 2 else 0.94)
        arrivals = unit_trace(int(12 * rate), ONE, np.ones(1), 7000 + i)[0] / rate
        latency = simulate(arrivals, np.full(arrivals.size, 5 * MS * rate / 112.157))
        segments.append(
            SegmentObservation(
                offered_qps=rate, trace_id=str(i), quad=i // 2, planned_ns=arrivals, sizes=np.ones(arrivals.size),
                latency_ns=latency, duration_s=12.0,
            )
        )  # fmt: skip
    assert math.exp(_fit(segments, _twin()).log_scale) == pytest.approx(1.0, abs=0.01)
    assert math.exp(_free(segments, _twin())) > 1.02


def test_correlation_falls_with_unknown_noise() -> None:
    low, high = (_fit(_segments(12, 1.0, 5, noise), _twin()).correlation for noise in (0.05, 0.5))
    assert low > 0.95 > 0.8 > high


def test_no_root_without_lateness_and_none_when_everything_is_late() -> None:
    quick = _segments(2, 0.05, 6)
    assert _free(quick, _twin()) == -math.inf
    dead = [
        SegmentObservation(
            offered_qps=s.offered_qps, trace_id=s.trace_id, quad=s.quad, planned_ns=s.planned_ns, sizes=s.sizes,
            latency_ns=np.full(s.sizes.size, np.inf), duration_s=s.duration_s,
        )
        for s in quick
    ]  # fmt: skip
    assert _free(dead, _twin()) == math.inf


def test_known_speeds_of_segments_are_part_of_the_twin() -> None:
    """Segments of a host that wavers by 20 %: with their speeds known, what is left to scale is 1."""
    speeds = np.log([0.8, 1.2, 0.9, 1.1, 1.0, 1.05])
    segments = [_segments(i + 1, math.exp(speed), 8)[i] for i, speed in enumerate(speeds)]
    replay = Replay(segments, _twin(), LIMIT_NS, speeds)
    assert math.exp(free_scale(replay, prior_sd=0.0)) == pytest.approx(1.0, abs=2e-4)
    assert replay.twin(0.0) == pytest.approx(replay.real)


def test_the_prior_decides_where_nothing_was_near_the_limit() -> None:
    replay = Replay(_segments(4, 1.0, 9), _twin(np.array([0.9, 1.1])), 40 * LIMIT_NS)
    idle = fit_scale(replay, PRIOR_SD, lambda log_scale: np.linspace(-0.1, 0.1, 4) + log_scale)
    assert (idle.log_scale, idle.prior_log_sd, idle.prior_share) == (0.0, PRIOR_SD, 1.0)


@pytest.mark.parametrize("noise", [0.15, 0.3])
def test_late_queries_and_prior_share_by_their_variances(noise: float) -> None:
    """Over 60 systems 1.5 % slower than their twin: the mean estimate lies between the prior's 0 and the truth, at the
    share that the variance of the estimate without a prior gives the late queries, and errors are smaller than that."""
    spread = np.exp(np.random.default_rng(4).normal(0, noise, 4000))
    twin = _twin(np.array([chunk.mean() for chunk in np.array_split(np.sort(spread), 64)]))
    many = [_segments(6, math.exp(0.015), 300 + i, noise) for i in range(60)]
    free = np.array([free_scale(Replay(s, twin, LIMIT_NS), prior_sd=0.0) for s in many])
    held = np.array([free_scale(Replay(s, twin, LIMIT_NS), prior_sd=PRIOR_SD) for s in many])
    share = PRIOR_SD**2 / (PRIOR_SD**2 + free.var(ddof=1))
    assert held.mean() == pytest.approx(share * free.mean(), abs=0.004)
    assert np.sqrt(np.mean((held - 0.015) ** 2)) < np.sqrt(np.mean((free - 0.015) ** 2))


def test_late_queries_that_contradict_the_prior_overrule_it() -> None:
    segments = _segments(6, 1.2, 11)
    fit = _fit(segments, _twin(), prior_sd=PRIOR_SD)
    assert math.exp(fit.log_scale) == pytest.approx(1.2, abs=2e-3) and fit.prior_log_sd == 0.0


def test_what_one_segment_alone_says_leaves_the_prior_as_it_was() -> None:
    """Late queries in one segment of eight, as in a bad moment of the host: nothing tells how far chance moved them."""
    segments = [*_segments(7, 1.0, 12), _segments(8, 1.1, 12)[7]]
    replay = Replay(segments, _twin(np.array([0.9, 1.1])), 3.0 * LIMIT_NS)
    assert np.count_nonzero(replay.information(0.0) > 0.1 * replay.information(0.0).max()) <= 2
    fit = fit_scale(replay, PRIOR_SD, lambda log_scale: np.linspace(-0.1, 0.1, 8) + log_scale)
    assert (fit.prior_share, fit.prior_log_sd) == (1.0, PRIOR_SD) and abs(fit.log_scale) < 1e-6


def test_one_long_queue_does_not_overrule_the_prior() -> None:
    """All late queries in one of eight segments: however late, one clump is no contradiction."""
    segments = [*_segments(7, 1.0, 12), _segments(8, 1.3, 12)[7]]
    fit = _fit(segments, _twin(np.array([0.9, 1.1])), prior_sd=PRIOR_SD)
    assert 0.0 < fit.log_scale < 2.5 * PRIOR_SD


def test_the_prior_decides_where_neither_side_has_a_late_query() -> None:
    """At a fifth of the load nothing is late, and nothing says that the system is infinitely fast."""
    quiet = []
    for s in _segments(6, 1.0, 13):
        planned = s.planned_ns * 5
        latency = simulate(planned, np.full(672, 5 * MS))
        quiet.append(dataclasses.replace(s, offered_qps=22.4, planned_ns=planned, latency_ns=latency, duration_s=30.0))
    fit = _fit(quiet, _twin(np.array([0.95, 1.05])), prior_sd=PRIOR_SD)
    assert fit.log_scale == pytest.approx(0.0, abs=PRIOR_SD)
    assert fit.prior_log_sd > 0.0
