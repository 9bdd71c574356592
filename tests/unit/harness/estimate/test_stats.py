"""Intervals and counts against published values, scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as sps

from harness.estimate.stats import (
    beyond_chance,
    block_late_bound,
    busy_periods,
    clopper_pearson,
    effective_degrees,
    holm,
    jackknife_half_width,
    late_clumps,
    log_t_interval,
    percentile,
    pseudo_values,
    queries_needed,
    t_interval,
)


@pytest.mark.parametrize(("p", "needed"), [(0.5, 7), (0.9, 44), (0.99, 459), (0.999, 4603)])
def test_fewest_queries_for_a_percentile(p: float, needed: int) -> None:
    """459 and 4,603 are the no-late sample sizes of a one-sided 99 % bound (MLPerf's early stopping at t = 0)."""
    assert queries_needed(p) == needed
    assert p**needed <= 0.01 < p ** (needed - 1)


def test_percentile_is_an_observed_value_or_nothing() -> None:
    values = np.random.default_rng(1).permutation(np.arange(1, 1001)).astype(float)
    assert percentile(values, 0.99) == 991.0
    assert percentile(values, 0.5) == 501.0
    assert percentile(values[:458], 0.99) is None
    assert percentile(values[:459], 0.99) is not None
    assert percentile(values, 0.999) is None
    assert percentile(np.append(np.ones(990), np.full(10, np.inf)), 0.99) == math.inf


@given(st.integers(459, 3000), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=60)
def test_percentile_equals_numpys_higher_rank(n: int, p: float) -> None:
    values = np.random.default_rng(n).exponential(size=n)
    ours = percentile(values, p)
    rank = math.ceil(round(p * (n - 1), 9))
    assert ours == np.sort(values)[rank]
    assert np.mean(values <= ours) >= p - 1 / n


def test_t_interval_equals_scipy() -> None:
    values = [1.2, 0.7, 1.9, 1.1, 1.4]
    expected = sps.t.interval(0.95, 4, np.mean(values), sps.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-12)
    ratio, ci = log_t_interval(np.log(values))
    assert ratio == pytest.approx(sps.gmean(values), rel=1e-12)
    assert ci == pytest.approx(np.exp(sps.t.interval(0.95, 4, np.mean(np.log(values)), sps.sem(np.log(values)))))
    with pytest.raises(ValueError, match="at least 2"):
        t_interval([1.0])


def test_clopper_pearson_equals_scipys_exact_interval() -> None:
    for late, queries in [(0, 50), (3, 459), (50, 50), (17, 300)]:
        exact = sps.binomtest(late, queries).proportion_ci(0.95, method="exact")
        assert clopper_pearson(late, queries) == pytest.approx((exact.low, exact.high), abs=1e-12)
    # MLPerf: 1 late query needs 662 queries for a one-sided 99 % bound of 1 % (two-sided 98 %).
    assert clopper_pearson(1, 662, 0.98)[1] < 0.01 <= clopper_pearson(1, 661, 0.98)[1]


def test_block_bound_is_the_t_bound_of_block_means() -> None:
    late = np.random.default_rng(2).random(3000) < 0.02
    means = late.reshape(30, 100).mean(axis=1)
    expected = means.mean() + 1.6991270 * means.std(ddof=1) / math.sqrt(30)
    assert block_late_bound(late) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="cannot be cut"):
        block_late_bound(late[:29])


def test_block_bound_holds_under_clumping_where_the_binomial_bound_does_not() -> None:
    """Late queries in clumps of 25, truth 1 %: 5 % of the bounds should lie below it; the binomial ones far more."""
    rng = np.random.default_rng(3)
    block_below = binomial_below = 0
    for _ in range(400):
        starts = rng.random(1200) < 0.01
        late = np.repeat(starts, 25)
        block_below += block_late_bound(late) < 0.01
        binomial_below += clopper_pearson(int(late.sum()), late.size, 0.90)[1] < 0.01
    assert block_below / 400 < 0.10
    assert binomial_below / 400 > 0.25


def test_busy_periods_end_when_nothing_is_outstanding() -> None:
    planned = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 30.0])
    latency = np.array([5.0, 5.0, 5.0, 1.0, 3.0, 2.0])
    assert busy_periods(planned, latency).tolist() == [0, 0, 0, 1, 2, 3]
    assert late_clumps(planned, latency, 4.0) == 1
    assert late_clumps(planned, latency, 2.5) == 2
    assert late_clumps(planned, latency, 9.0) == 0


def test_an_unanswered_query_never_ends_its_busy_period() -> None:
    planned, latency = np.arange(5.0) * 100, np.array([1.0, np.inf, 1.0, 50.0, 1.0])
    assert busy_periods(planned, latency).tolist() == [0, 1, 1, 1, 1]
    assert late_clumps(planned, latency, 10.0) == 1


def test_holm_gives_the_textbook_steps() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=100)
def test_holm_rejects_as_the_step_down_rule_says(p_values: list[float]) -> None:
    level, m = 0.05, len(p_values)
    rejected: set[int] = set()
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (m - step) > level:
            break
        rejected.add(int(index))
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected


def test_jackknife_of_a_mean_is_the_t_interval() -> None:
    x = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    without = [np.delete(x, i).mean() for i in range(6)]
    assert pseudo_values(x.mean(), without) == pytest.approx(x)
    low, high = t_interval(x)
    assert jackknife_half_width(x.mean(), without, 5.0) == pytest.approx((high - low) / 2)
    assert jackknife_half_width(x.mean(), without, 0.9) == math.inf


def test_jackknife_removes_the_bias_of_a_squared_mean() -> None:
    """Mean of pseudo-values of (mean)^2 is mean^2 - s^2 / n, the textbook unbiased estimate."""
    x = np.array([2.0, 3.5, 1.0, 7.0])
    pseudo = pseudo_values(x.mean() ** 2, [np.delete(x, i).mean() ** 2 for i in range(4)])
    assert pseudo.mean() == pytest.approx(x.mean() ** 2 - x.var(ddof=1) / 4)


def test_effective_degrees_count_units_by_what_they_know() -> None:
    assert effective_degrees(np.ones(6)) == pytest.approx(5.0)
    assert effective_degrees(np.array([1.0, 0, 0, 0])) == pytest.approx(0.0)
    assert effective_degrees(np.array([4.0, 1.0, 1.0])) == pytest.approx(1.0)
    assert effective_degrees(np.zeros(3)) == 0.0


def test_what_is_beyond_chance() -> None:
    assert beyond_chance(3.0, 0.0) == 3.0
    assert beyond_chance(2.0, 1.0) == pytest.approx(1.5)
    assert beyond_chance(0.5, 1.0) == beyond_chance(0.0, 1.0) == beyond_chance(-1.0, 0.1) == 0.0


def test_nothing_shows_half_as_much_as_when_cut_off_at_zero() -> None:
    """Of a standard normal Z: E max(Z, 0) = phi(0); E (Z - 1 / Z) 1[Z > 1] = phi(1) - E1(1/2) / (2 sqrt(2 pi))."""
    drawn = np.random.default_rng(1).normal(size=200_000)
    exact = sps.norm.pdf(1.0) - special.exp1(0.5) / (2.0 * math.sqrt(2.0 * math.pi))
    assert np.mean([beyond_chance(float(z), 1.0) for z in drawn]) == pytest.approx(exact, rel=0.02)
    assert exact < 0.4 * sps.norm.pdf(0.0)
