"""The truth of the process cells."""

import math

import numpy as np
import pytest

from harness.calibrate.process_truth import TruthPoint, truth_of, truth_qps
from harness.trial import Sla

MS = 1e6


def test_exponential_gaps_have_the_lbt_of_the_closed_form() -> None:
    """M/M/1 with delay d: mu - ln(100) / (limit - d)."""
    gaps = -np.log(1.0 - (np.arange(200_000) + 0.5) / 200_000) * 5.0 * MS
    median = float(np.median(gaps))
    assert truth_qps(gaps, median, Sla(limit_ms=50.0)) == pytest.approx(200.0 - math.log(100.0) / 0.05, rel=3e-3)
    delayed = truth_qps(gaps, median + 2.0 * MS, Sla(limit_ms=50.0))
    assert delayed == pytest.approx(200.0 - math.log(100.0) / 0.048, rel=3e-3)


def _steady(mean_ms: float) -> TruthPoint:
    return TruthPoint(gaps_ns=np.full(400, mean_ms * MS), idle_ns=mean_ms * MS)


def test_a_drifting_truth_is_known_by_how_its_points_differ() -> None:
    """The jackknife of a mean is its standard error: that of the nine mean services, times how the LBT goes by them."""
    rng = np.random.default_rng(0)
    log_means = 0.01 * rng.standard_normal(9)
    truth, log_se = truth_of([_steady(5.0 * math.exp(x)) for x in log_means], Sla(limit_ms=25.0))
    nearby = [truth_of([_steady(5.0 * math.exp(x))], Sla(limit_ms=25.0))[0] for x in (-0.01, 0.01)]
    slope = math.log(nearby[0] / nearby[1]) / 0.02
    middle = truth_of([_steady(5.0 * math.exp(float(log_means.mean())))], Sla(limit_ms=25.0))[0]
    assert truth == pytest.approx(middle, rel=1e-3)
    assert log_se == pytest.approx(slope * float(log_means.std(ddof=1)) / 3.0, rel=0.03)


def test_a_truth_that_hangs_on_one_point_has_no_error() -> None:
    slow = TruthPoint(gaps_ns=np.full(400, 30.0 * MS), idle_ns=30.0 * MS)
    assert truth_of([_steady(5.0)], Sla(limit_ms=25.0))[1] == math.inf
    assert truth_of([_steady(5.0), slow], Sla(limit_ms=25.0)) == (0.0, math.inf)
