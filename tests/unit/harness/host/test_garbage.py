"""Collections are counted, and their pauses add up. The interpreter's own counters are the other truth."""

from __future__ import annotations

import gc

import pytest

from harness.clock import now_ns
from harness.host.garbage import Collections, watch_collections


def test_every_collection_is_told_once_with_its_pause() -> None:
    told: list[Collections] = []
    gc.disable()
    before = sum(generation["collections"] for generation in gc.get_stats())
    start = now_ns()
    end = watch_collections(told.append)
    try:
        for generation in (0, 1, 2, 2):
            gc.collect(generation)
    finally:
        end()
        gc.enable()
    elapsed = now_ns() - start
    gc.collect()
    assert [one.count for one in told] == [1] * 4
    assert sum(generation["collections"] for generation in gc.get_stats()) - before >= 5
    assert all(one.total_ns == one.longest_ns >= 0 for one in told)
    assert sum(one.total_ns for one in told) <= elapsed


@pytest.mark.parametrize(("first", "second"), [((2, 9, 5), (1, 7, 7)), ((0, 0, 0), (3, 8, 4))])
def test_sums_keep_the_longest_pause(first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
    one, other = (Collections(count=c, total_ns=t, longest_ns=p) for c, t, p in (first, second))
    both = one + other
    assert (both.count, both.total_ns) == (first[0] + second[0], first[1] + second[1])
    assert both.longest_ns == max(first[2], second[2])
    assert other + one == both
    assert one + Collections() == one
