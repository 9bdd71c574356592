"""Query sizes against their published tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.errors import ConfigurationError
from harness.traffic.query_sizes import draw, mean_size, pmf

N = np.arange(101)


def test_heavy_is_the_log_normal_in_unit_bins() -> None:
    law = stats.lognorm(s=1.0, scale=22.0)
    expected = law.cdf(N[1:] + 0.5) - law.cdf(N[1:] - 0.5)
    np.testing.assert_allclose(pmf("heavy")[1:], expected / expected.sum(), rtol=1e-12)
    assert pmf("heavy")[0] == 0.0


def test_heavy_has_the_published_quantiles_mean_and_tail() -> None:
    table = pmf("heavy")
    quantiles = [int(np.searchsorted(np.cumsum(table), q)) for q in (0.05, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)]
    assert quantiles == [4, 11, 20, 37, 60, 75, 94]
    assert mean_size("heavy") == pytest.approx(27.07, abs=0.01)
    queries = np.sort(np.repeat(N, np.rint(table * 1_000_000).astype(int)))
    largest = queries[-len(queries) // 4 :]
    assert largest.sum() / queries.sum() == pytest.approx(0.543, abs=0.002)


def test_mlperf_dlrm_is_the_published_histogram_over_seven() -> None:
    table = pmf("mlperf_dlrm")
    sizes = {14: 2, 29: 12, 43: 2, 57: 1, 71: 1, 86: 1, 100: 1}
    assert {int(n): round(20 * table[n]) for n in np.flatnonzero(table)} == sizes
    assert mean_size("mlperf_dlrm") == pytest.approx(270 / 7, abs=0.3)


def test_fixed_and_uniform() -> None:
    assert pmf("fixed:32")[32] == 1.0
    np.testing.assert_allclose(pmf("uniform:3-6")[3:7], 0.25)
    assert mean_size("uniform:3-6") == pytest.approx(4.5)


@pytest.mark.parametrize("name", ["heavy", "mlperf_dlrm", "uniform:1-100", "fixed:7"])
def test_draws_follow_the_table(name: str) -> None:
    table = pmf(name)
    drawn = np.bincount(draw(table, np.random.default_rng(3).random(40_000)), minlength=101)
    assert drawn[table == 0].sum() == 0
    possible = table * 40_000 >= 5
    observed = np.append(drawn[possible], drawn[~possible].sum())
    expected = np.append(table[possible], table[~possible].sum()) * 40_000
    kept = expected > 0
    if kept.sum() > 1:
        assert stats.chisquare(observed[kept], expected[kept]).pvalue > 1e-4


def test_draw_inverts_at_the_edges() -> None:
    table = pmf("uniform:1-4")
    uniforms = np.array([0.0, 0.2499, 0.25, 0.75, 1.0 - 2.0**-53])
    np.testing.assert_array_equal(draw(table, uniforms), [1, 1, 2, 4, 4])


@pytest.mark.parametrize("name", ["heavi", "fixed:", "fixed:0", "fixed:101", "uniform:5-2", "uniform:5", "heavy:2", ""])
def test_unreadable_names_say_what_is_possible(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"heavy, mlperf_dlrm, fixed:N or uniform:LO-HI"):
        pmf(name)
