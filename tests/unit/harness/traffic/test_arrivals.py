"""Arrivals are a Poisson process; the same unit trace serves every rate; queries stay inside their group."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.errors import ConfigurationError
from harness.traffic.arrivals import make_trace, sweep
from harness.traffic.query_sizes import pmf
from zoo.schema import Split

GROUPS = np.cumsum([0, 5, 100, 40, 100, 7, 250])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gaps_are_exponential(seed: int) -> None:
    gaps = np.diff(make_trace(seed, 20_000, "fixed:1", GROUPS).unit_arrivals, prepend=0.0)
    assert gaps.min() >= 0.0
    # The coefficient of variation of n exponential gaps has a standard error of about 1 / sqrt(n).
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=4.5 / np.sqrt(len(gaps)))
    assert stats.kstest(gaps, "expon").pvalue > 1e-4
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4.5 / np.sqrt(len(gaps))


def test_arrivals_in_windows_are_poisson() -> None:
    arrivals = make_trace(11, 40_000, "fixed:1", GROUPS).unit_arrivals
    counts = np.histogram(arrivals, np.arange(0, 39_000, 10))[0]
    # Index of dispersion of a Poisson process is 1, with a standard error of sqrt(2 / windows).
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=4.5 * np.sqrt(2 / len(counts)))


def test_rates_scale_one_unit_trace() -> None:
    trace = make_trace(4, 500, "heavy", GROUPS)
    slow, fast = trace.planned_ns(50.0), trace.planned_ns(200.0)
    np.testing.assert_allclose(slow, 4.0 * fast, atol=3)
    np.testing.assert_allclose(slow, trace.unit_arrivals / 50.0 * 1e9, atol=1)


def test_a_seed_gives_the_same_bits() -> None:
    trace = make_trace(2026, 4, "heavy", GROUPS)
    again = make_trace(2026, 1000, "heavy", GROUPS)
    np.testing.assert_array_equal(trace.unit_arrivals, again.unit_arrivals[:4])
    np.testing.assert_array_equal(trace.sizes, again.sizes[:4])
    words = np.random.PCG64(np.random.SeedSequence(2026).spawn(4)[0]).random_raw(4)
    gaps = [-np.log1p(-float(int(word) >> 11) / 2**53) for word in words]
    np.testing.assert_allclose(trace.unit_arrivals, np.cumsum(gaps), rtol=1e-15)
    assert not np.array_equal(trace.sizes, make_trace(2027, 4, "heavy", GROUPS).sizes)


def test_sizes_follow_the_published_table() -> None:
    sizes = make_trace(8, 50_000, "heavy", GROUPS).sizes
    expected = pmf("heavy")[1:] * 50_000
    observed = np.bincount(sizes, minlength=101)[1:]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def test_groups_are_drawn_evenly_among_those_that_are_large_enough() -> None:
    trace = make_trace(5, 30_000, "fixed:50", GROUPS)
    counts = np.bincount(trace.group, minlength=6)
    assert counts[[0, 2, 4]].sum() == 0
    assert stats.chisquare(counts[[1, 3, 5]]).pvalue > 1e-4
    starts = trace.start[trace.group == 5]
    assert stats.kstest((starts + 0.5) / 250, "uniform").pvalue > 1e-4


def test_queries_ask_for_consecutive_samples_and_wrap_inside_their_group() -> None:
    trace = make_trace(6, 2000, "heavy", GROUPS)
    queries = trace.queries(GROUPS)
    wrapped = 0
    for q in range(len(trace)):
        low, high = int(GROUPS[trace.group[q]]), int(GROUPS[trace.group[q] + 1])
        expected = [low + (int(trace.start[q]) + k) % (high - low) for k in range(int(trace.sizes[q]))]
        got = queries.samples[queries.offsets[q] : queries.offsets[q + 1]].tolist()
        assert got == expected
        assert len(set(got)) == len(got)
        wrapped += got[-1] < got[0]
    assert wrapped > 50


def test_a_cut_starts_its_clock_at_the_arrival_before() -> None:
    trace = make_trace(7, 100, "heavy", GROUPS)
    part = trace.cut(40, 60)
    np.testing.assert_allclose(part.unit_arrivals, trace.unit_arrivals[40:60] - trace.unit_arrivals[39])
    np.testing.assert_array_equal(part.query_id, np.arange(40, 60))
    np.testing.assert_array_equal(part.sizes, trace.sizes[40:60])
    np.testing.assert_allclose(trace.cut(0, 5).unit_arrivals, trace.unit_arrivals[:5])


def test_too_small_groups_are_an_error_that_names_the_largest() -> None:
    with pytest.raises(ConfigurationError, match=r"up to 100 samples .* the largest group of this data set has 40"):
        make_trace(1, 10, "heavy", np.array([0, 40, 50]))


def test_sweep_asks_for_every_sample_once_within_groups(split: Split) -> None:
    queries = sweep(split, 100)
    np.testing.assert_array_equal(queries.samples, np.arange(len(split)))
    assert set(queries.sizes.tolist()) == {100, 20}
    group_of = np.searchsorted(split.groups, queries.samples, side="right")
    for q in range(len(queries)):
        assert len(set(group_of[queries.offsets[q] : queries.offsets[q + 1]].tolist())) == 1
