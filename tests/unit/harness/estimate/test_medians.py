"""Medians and quantiles against numpy's own, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.estimate.medians import Groups, grouped_medians, median, quantile

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


@settings(max_examples=100)
@given(VALUES, st.floats(0, 1))
def test_median_and_quantile_are_those_of_numpy(values: list[float], share: float) -> None:
    given_values = np.array(values)
    assert median(given_values) == np.median(given_values)
    assert quantile(given_values, share) == np.quantile(given_values, share)
    assert given_values.tolist() == values


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-3, 5), st.floats(-1e6, 1e6)), max_size=60))
def test_grouped_medians_are_those_of_each_group(pairs: list[tuple[int, float]]) -> None:
    group = np.array([g for g, _ in pairs], dtype=np.int64)
    values = np.array([v for _, v in pairs])
    wanted = [np.median(values[group == g]) for g in group]
    assert grouped_medians(values, group).tolist() == wanted


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("numbers", [3, 300, 100_000])
def test_many_groups_of_unequal_size(shuffled: bool, numbers: int) -> None:
    """In order and out of it, few groups and many, near and far apart."""
    rng = np.random.default_rng(numbers)
    group = np.sort(rng.integers(0, 1 + min(numbers, 300), 3000)) * (numbers // min(numbers, 300))
    if shuffled:
        group = rng.permutation(group)
    values = rng.normal(size=group.size)
    found = Groups(group)
    for number, part in zip(np.unique(group), found.parts(values), strict=True):
        np.testing.assert_array_equal(part, values[group == number])
    np.testing.assert_array_equal(found.spread(np.unique(group)), group)
    wanted = np.array([np.median(values[group == number]) for number in np.unique(group)])
    np.testing.assert_array_equal(found.medians(values), found.spread(wanted))
