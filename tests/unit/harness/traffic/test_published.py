"""Traces that anyone can make again from trial's seed, purpose and index."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.traffic.published import PublishedTrace, any_groups, trace_seed


def _trace(seed: int, sizes: str = "heavy") -> PublishedTrace:
    return PublishedTrace(seed=seed, purpose="quad", index=3, sizes=sizes)


def test_a_trace_seed_can_be_made_again_by_anyone() -> None:
    digest = hashlib.sha256(b"7/quad/3").hexdigest()
    assert trace_seed(7, "quad", 3) == int(digest[:16], 16)


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(0, 200))
def test_moments_and_sizes_depend_neither_on_the_groups_nor_on_how_many_are_asked(
    seed: int, count: int, more: int
) -> None:
    groups = np.array([0, 150, 400, 530, 900])
    short, long = _trace(seed).first(count, any_groups()), _trace(seed).first(count + more, groups)
    np.testing.assert_array_equal(short.sizes, long.sizes[:count])
    np.testing.assert_array_equal(short.unit_arrivals, long.unit_arrivals[:count])


@given(st.integers(0, 2**32), st.floats(0.1, 500.0))
def test_until_holds_every_arrival_before_the_moment(seed: int, mean: float) -> None:
    part = _trace(seed).until(mean, any_groups())
    everything = _trace(seed).first(2000, any_groups())
    assert len(part) == max(1, int((everything.unit_arrivals < mean).sum()))
