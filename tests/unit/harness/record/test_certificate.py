"""The certificate's rule, against other implementations and a queue whose late fraction is known."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import simulate
from harness.record.certificate import BLOCKS, certify, claimed_qps, judge
from harness.traffic.published import HELD_OUT_SEEDS
from harness.trial import Sla

SLA = Sla(limit_ms=50.0)
MS, NS = 1e6, 1e9


def _segment(late_by_block: list[int], queries: int = 200, aborted: bool = False) -> SegmentObservation:
    """Thirty seconds after a first one that does not count; so many late queries in each of them."""
    planned, latency = [np.array([0.5 * NS])], [np.array([900.0 * MS])]
    for block, late in enumerate(late_by_block):
        planned.append((1.0 + block + (np.arange(queries) + 0.5) / queries) * NS)
        latency.append(np.where(np.arange(queries) < late, 60.0, 10.0) * MS)
    at = np.concatenate(planned)
    return SegmentObservation(
        offered_qps=float(queries), trace_id="", quad=-1, planned_ns=at, sizes=np.ones(at.size),
        latency_ns=np.concatenate(latency), duration_s=31.0, aborted=aborted,
    )  # fmt: skip


def _noise(seed: int, mean: float) -> list[int]:
    return np.random.default_rng(seed).poisson(mean, BLOCKS).tolist()


@pytest.mark.parametrize(("mean", "verdict"), [(0.5, "pass"), (1.9, "fail")])
def test_the_bound_is_that_of_a_one_sided_t_test(mean: float, verdict: str) -> None:
    late = _noise(1, mean)
    attempt = judge(_segment(late), 200.0, SLA)
    interval = stats.ttest_1samp(np.array(late) / 200, 0.0, alternative="less").confidence_interval(0.95)
    assert attempt.bound == pytest.approx(interval.high, rel=1e-9)
    assert attempt.late_fraction == pytest.approx(sum(late) / 6000)
    assert (attempt.verdict, attempt.queries) == (verdict, 6000)


def test_a_segment_that_was_cut_short_fails() -> None:
    assert judge(_segment([0] * BLOCKS), 200.0, SLA).verdict == "pass"
    assert judge(_segment([0] * BLOCKS, aborted=True), 200.0, SLA).verdict == "fail"


def test_too_few_queries_show_nothing() -> None:
    """None of 298 late bounds the late fraction at 1 % with less than 95 % confidence: 0.99^298 > 0.05."""
    assert 0.99**299 < 0.05 < 0.99**298
    assert judge(_segment([0] * BLOCKS, queries=9), 9.0, SLA).verdict == "fail"
    assert judge(_segment([0] * BLOCKS, queries=10), 10.0, SLA).verdict == "pass"


def test_the_claim_is_cautious() -> None:
    assert claimed_qps(100.0, (97.0, 103.0)) == 95.0
    assert claimed_qps(100.0, (90.0, 111.0)) == 90.0


def test_a_claim_that_fails_retreats_by_three_percent_on_the_next_trace() -> None:
    offered = []

    def offer(rate: float, number: int) -> SegmentObservation:
        offered.append((rate, number))
        return _segment(_noise(number, 0.4 if rate < 96.0 else 3.0))

    certificate = certify(100.0, offer, SLA)
    assert offered == [(100.0, 0), (pytest.approx(97.0), 1), (pytest.approx(94.09), 2)]
    assert (certificate.verdict, certificate.rate_qps) == ("pass", pytest.approx(94.09))
    assert [attempt.verdict for attempt in certificate.attempts] == ["fail", "fail", "pass"]


def test_after_the_last_held_out_trace_there_is_none() -> None:
    certificate = certify(100.0, lambda rate, number: _segment([9] * BLOCKS), SLA)
    assert (certificate.verdict, certificate.rate_qps) == ("fail", None)
    assert len(certificate.attempts) == len(HELD_OUT_SEEDS) == 3


def _mm1(rate: float, seconds: float, seed: int) -> SegmentObservation:
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(NS / rate, int(rate * seconds * 1.3)))
    at = at[at < seconds * NS]
    latency = simulate(at, rng.exponential(5.0 * MS, at.size))
    return SegmentObservation(
        offered_qps=rate, trace_id="", quad=-1, planned_ns=at, sizes=np.ones(at.size), latency_ns=latency,
        duration_s=seconds,
    )  # fmt: skip


def test_a_rate_at_the_limit_seldom_gets_a_certificate_and_one_well_below_does() -> None:
    """M/M/1: at mu - ln(100) / limit exactly 1 % are late; blocks of 4 s hold some clumps each, so that the t bound is
    a little optimistic for their skewed counts: 10.8 % of 600 pass, not 5 %."""
    limit = 200.0 - math.log(100.0) / 0.05
    at_limit = [judge(_mm1(limit, 121.0, seed), limit, SLA).verdict == "pass" for seed in range(150)]
    below = [judge(_mm1(0.8 * limit, 121.0, seed), 0.8 * limit, SLA).verdict == "pass" for seed in range(50)]
    assert np.mean(at_limit) < 0.16
    assert np.mean(below) > 0.9
