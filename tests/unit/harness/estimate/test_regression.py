"""The late curve against a direct maximum of the likelihood, and Fieller's interval by simulation."""

import math

import numpy as np
import pytest
from scipy import optimize

from harness.estimate.regression import SlopePrior, crossing, fit_late_curve

FLAT = SlopePrior(mean=10.0, sd=1e6)
RATES = np.array([90.0, 95.0, 100.0, 105.0, 110.0])
QUERIES = np.full(5, 4000)


def _late(rng: np.random.Generator, slope: float, clump: int) -> np.ndarray:
    p = 1 / (1 + np.exp(-(math.log(0.01 / 0.99) + slope * np.log(RATES / 100.0))))
    return rng.binomial(QUERIES // clump, p) * clump


def test_fit_maximises_the_binomial_likelihood() -> None:
    late = np.array([12, 25, 44, 70, 130])

    def negative(beta: np.ndarray) -> float:
        eta = beta[0] + beta[1] * np.log(RATES / 100.0)
        return -float(np.sum(late * eta - QUERIES * np.log1p(np.exp(eta))))

    best = optimize.minimize(negative, np.array([-4.6, 10.0]), method="Nelder-Mead", options={"xatol": 1e-9}).x
    curve = fit_late_curve(RATES, late, QUERIES, FLAT)
    assert curve.slope == pytest.approx(best[1], rel=1e-5)
    assert curve.intercept + curve.slope * (math.log(100) - curve.centre) == pytest.approx(best[0], abs=1e-5)


def test_dispersion_counts_the_size_of_the_clumps() -> None:
    rng = np.random.default_rng(5)
    phi = [fit_late_curve(RATES, _late(rng, 12.0, 20), QUERIES, FLAT).phi for _ in range(300)]
    assert np.mean(phi) == pytest.approx(20, rel=0.1)


def test_a_strong_prior_fixes_the_slope() -> None:
    late = _late(np.random.default_rng(6), 12.0, 5)
    curve = fit_late_curve(RATES, late, QUERIES, SlopePrior(mean=7.0, sd=1e-4))
    assert curve.slope == pytest.approx(7.0, abs=1e-3)
    assert curve.degrees == pytest.approx(4.0, abs=1e-3)
    assert fit_late_curve(RATES, late, QUERIES, FLAT).degrees == pytest.approx(3.0, abs=1e-3)


def test_fieller_interval_covers_the_true_crossing() -> None:
    rng, inside, runs = np.random.default_rng(7), 0, 400
    for _ in range(runs):
        curve = fit_late_curve(RATES, _late(rng, 12.0, 8), QUERIES, SlopePrior(mean=12.0, sd=4.0))
        root, (low, high) = crossing(curve, 0.01)
        assert low < root < high
        inside += low <= 100.0 <= high
    assert 0.91 <= inside / runs <= 0.995


def test_no_interval_where_the_sign_of_the_slope_is_unknown() -> None:
    curve = fit_late_curve(RATES, np.array([40, 41, 39, 40, 40]), QUERIES, SlopePrior(mean=0.5, sd=50.0))
    assert crossing(curve, 0.01)[1] == (0.0, math.inf)


def test_too_little_evidence_is_refused() -> None:
    with pytest.raises(ValueError, match="3 segments"):
        fit_late_curve(RATES[:2], np.array([3, 4]), QUERIES[:2], FLAT)
    with pytest.raises(ValueError, match="late query"):
        fit_late_curve(RATES, np.zeros(5), QUERIES, FLAT)
