"""Objects for one thread at a time: no two threads hold the same one, and none is made without need."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.backends.idle_pool import IdlePool

THREADS = 4


def test_threads_that_hold_one_at_the_same_time_hold_different_ones() -> None:
    counter = itertools.count()
    pool = IdlePool(lambda: next(counter), ready=2)
    together = threading.Barrier(THREADS)

    def hold(_: int) -> int:
        with pool.taken() as one:
            together.wait(timeout=30)
            return one

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(3):
            assert sorted(threads.map(hold, range(THREADS))) == [0, 1, 2, 3]
    assert next(counter) == THREADS  # the later rounds took those of the first


def test_one_thread_uses_one_and_gives_it_back_after_an_error() -> None:
    counter = itertools.count()
    pool = IdlePool(lambda: next(counter), ready=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), pool.taken() as one:
            assert one == 0
            _ = 1 / 0
    assert next(counter) == 1
