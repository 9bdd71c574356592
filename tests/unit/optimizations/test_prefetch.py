"""Inputs that are prepared ahead: their order, how far ahead they are, and what becomes of an error."""

from __future__ import annotations

import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizations.stage.prefetch import Prefetch


class Source:
    """Draws 0, 1, 2, ... and notes how far the draws are ahead of what was taken."""

    def __init__(self) -> None:
        self.drawn = self.taken = self.farthest = 0

    def draw(self) -> int:
        self.drawn += 1
        self.farthest = max(self.farthest, self.drawn - self.taken)
        return self.drawn - 1


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 4), st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_inputs_come_in_order_and_never_from_too_far_ahead(depth: int, threads: int, stretches: list[int]) -> None:
    ahead: Prefetch[int, int] = Prefetch(depth, threads, lambda: None)
    source, seen = Source(), []
    for steps in stretches:
        before = source.drawn
        for ready in ahead.take(steps, source.draw, lambda drawn: drawn * drawn):
            source.taken += 1
            seen.append(ready)
        assert source.drawn - before == steps
    assert seen == [number * number for number in range(sum(stretches))]
    # One more than the depth may be on its way while the one before it is being used.
    assert source.farthest <= depth + 1


def test_nothing_is_prepared_before_the_first_is_asked_for() -> None:
    ahead: Prefetch[int, int] = Prefetch(3, 2, lambda: None)
    source = Source()
    inputs = ahead.take(4, source.draw, lambda drawn: drawn)
    threading.Event().wait(0.05)
    assert source.drawn == 0
    assert next(inputs) == 0


def test_as_many_prepare_at_one_time_as_there_are_threads() -> None:
    """Two preparations that wait for each other can only end side by side."""
    together = threading.Barrier(2, timeout=20)
    ahead: Prefetch[int, int] = Prefetch(2, 2, lambda: None)
    source = Source()
    assert list(ahead.take(6, source.draw, lambda drawn: drawn + 0 * together.wait())) == [0, 1, 2, 3, 4, 5]


def test_each_thread_begins_once_before_any_work() -> None:
    begun: list[int] = []
    ahead: Prefetch[int, int] = Prefetch(4, 3, lambda: begun.append(threading.get_ident()))
    assert len(set(begun)) == 3
    workers = set(ahead.take(12, lambda: 0, lambda drawn: threading.get_ident()))
    assert workers <= set(begun) and len(begun) == 3


@pytest.mark.parametrize("where", ["draw", "prepare"])
def test_an_error_reaches_whoever_waits_and_the_next_stretch_works(where: str) -> None:
    ahead: Prefetch[int, int] = Prefetch(2, 2, lambda: None)
    source = Source()

    def fail_at(number: int, value: int) -> int:
        if value == number:
            raise OSError("the disk is gone")
        return value

    calls = {"draw": source.draw, "prepare": lambda drawn: drawn}
    calls[where] = (lambda: fail_at(3, source.draw())) if where == "draw" else (lambda drawn: fail_at(3, drawn))
    with pytest.raises(OSError, match="the disk is gone"):
        list(ahead.take(9, calls["draw"], calls["prepare"]))
    fresh = Source()
    assert list(ahead.take(3, fresh.draw, lambda drawn: drawn)) == [0, 1, 2]


def test_a_stretch_that_is_left_early_draws_no_more() -> None:
    ahead: Prefetch[int, int] = Prefetch(2, 1, lambda: None)
    source = Source()
    inputs = ahead.take(1000, source.draw, lambda drawn: drawn)
    next(inputs)
    inputs.close()
    left = source.drawn
    threading.Event().wait(0.05)
    assert source.drawn == left < 10


class Owner:
    """What ``prepare`` belongs to, as a model belongs to a training."""

    def prepare(self, drawn: int) -> Prepared:
        return Prepared()


class Prepared:
    """An input."""


@pytest.mark.parametrize("ended", ["whole", "early", "failed"])
def test_threads_that_wait_keep_nothing_of_the_stretch_behind_them(ended: str) -> None:
    ahead: Prefetch[int, Prepared] = Prefetch(3, 2, lambda: None)
    owner, source = Owner(), Source()
    kept: list[weakref.ref[Owner | Prepared]] = [weakref.ref(owner)]
    inputs = ahead.take(5, source.draw, owner.prepare)
    kept.append(weakref.ref(next(inputs)))
    if ended == "failed":
        with pytest.raises(OSError, match="the disk is gone"):
            inputs.throw(OSError("the disk is gone"))
    for each in inputs if ended == "whole" else ():
        kept.append(weakref.ref(each))
        del each
    inputs.close()
    del owner, inputs
    for _ in range(100):  # a thread may still be about the last input of a stretch that was left
        if all(each() is None for each in kept):
            break
        threading.Event().wait(0.05)
    assert [each() for each in kept] == [None] * len(kept)
    assert list(ahead.take(2, iter((3, 4)).__next__, lambda drawn: drawn)) == [3, 4]


def test_threads_end_with_what_they_prepare_for() -> None:
    threads: list[threading.Thread] = []
    ahead: Prefetch[int, int] = Prefetch(4, 3, lambda: threads.append(threading.current_thread()))
    assert list(ahead.take(2, iter((3, 4)).__next__, lambda drawn: drawn)) == [3, 4]
    assert [thread.is_alive() for thread in threads] == [True] * 3
    del ahead
    for thread in threads:
        thread.join(timeout=20)
    assert [thread.is_alive() for thread in threads] == [False] * 3
