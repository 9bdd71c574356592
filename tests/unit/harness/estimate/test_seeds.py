"""The gate of seeds against closed forms and simulated trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.estimate.seeds import auc_margin, paired_seeds


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.floats(0.5, 0.9), st.floats(0.5, 0.9)), min_size=3, max_size=8))
def test_it_is_the_paired_t_test_against_the_margin(pairs: list[tuple[float, float]]) -> None:
    base, cand = (np.array(side) for side in zip(*pairs, strict=True))
    found = paired_seeds(base, cand)
    assert found.margin == max(0.001, 3 * np.std(base, ddof=1) * math.sqrt(2 / len(base)))
    test = stats.ttest_rel(cand + found.margin, base, alternative="greater")
    if math.isfinite(test.pvalue) and abs(test.pvalue - 0.025) > 1e-9:
        assert (found.verdict == "pass") == (test.pvalue < 0.025) == (found.reasons == ())
    low, high = stats.ttest_rel(cand, base).confidence_interval(0.95)
    if math.isfinite(low):
        np.testing.assert_allclose(found.ci, (low, high), atol=1e-9)
    assert found.delta == pytest.approx(np.mean(cand - base))


def share_passed(shift: float, own: float, seeds: int = 5, trials: int = 800) -> float:
    """Of simulated candidates. Standard deviations: 0.001 by the seed, on both sides; ``own`` by each training."""
    rng = np.random.default_rng(5)
    common = rng.normal(0.8, 0.001, (trials, seeds))
    base, cand = (common + rng.normal(0, own, (trials, seeds)) for _ in range(2))
    return float(np.mean([paired_seeds(b, c + shift).verdict == "pass" for b, c in zip(base, cand, strict=True)]))


def test_equals_pass_and_losses_beyond_the_margin_do_not() -> None:
    """With a spread of 0.001 the margin is 0.0019 on average."""
    assert share_passed(0.0, 0.0002) > 0.99
    assert share_passed(-0.004, 0.0002) < 0.005
    assert share_passed(-0.01, 0.001) < 0.01


def test_a_loss_of_the_margin_passes_one_time_in_forty() -> None:
    """Where the baseline's spread is too small to widen the margin of 0.001."""
    rng = np.random.default_rng(2)
    base = np.full((2000, 5), 0.8)
    cand = base - 0.001 + rng.normal(0, 0.0005, base.shape)
    passed = np.mean([paired_seeds(b, c).verdict == "pass" for b, c in zip(base, cand, strict=True)])
    assert passed == pytest.approx(0.025, abs=0.0105)  # three standard errors


def test_what_it_says_of_a_failure() -> None:
    worse = paired_seeds([0.8, 0.8, 0.8], [0.7, 0.71, 0.69])
    unclear = paired_seeds([0.8, 0.8, 0.8], [0.79, 0.81, 0.8])
    assert worse.reasons[0].startswith("AUC may fall by 0.1248") and "more seeds" not in worse.reasons[0]
    assert unclear.verdict == "fail" and unclear.reasons[0].endswith(
        "it may as well not fall, and more seeds would tell"
    )
    broken = paired_seeds([0.8, 0.8, 0.8], [0.8, math.nan, 0.8])
    assert broken.verdict == "fail" and broken.reasons == ("1 of 3 candidates have scores that are not finite numbers",)


@pytest.mark.parametrize(
    ("base", "cand", "said"),
    [
        ([0.8, 0.8], [0.8, 0.8], "AUCs of 2 and 2 seeds"),
        ([0.8, 0.8, 0.8], [0.8, 0.8], "AUCs of 3 and 2 seeds"),
        ([0.8, math.nan, 0.8], [0.8, 0.8, 0.8], "baseline's AUC of a seed is not a number"),
    ],
)
def test_what_cannot_be_compared_is_refused(base: list[float], cand: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired_seeds(base, cand)


@given(spread=st.floats(0, 0.1), seeds=st.integers(3, 40))
def test_the_margin_is_never_under_that_of_serving_and_falls_with_more_seeds(spread: float, seeds: int) -> None:
    assert auc_margin(spread, seeds) >= auc_margin(spread, seeds + 1) >= 0.001
