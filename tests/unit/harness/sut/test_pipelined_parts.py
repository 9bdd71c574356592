"""Queries in pipelined parts: order, odd numbers of samples, threads that end, errors that surface."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from harness.clock import sleep_s
from harness.sut.pipelined_parts import PipelinedParts, even_spans
from harness.sut.steps import Steps
from zoo.schema import Batch, Float32, Split


def ids(batch: Batch) -> Float32:
    return batch.item.ids[:, 1].astype(np.float32)


def noting(threads: set[int]) -> Callable[[Batch], Float32]:
    """Lookups that note the thread in which they are done."""

    def look_up(part: Batch) -> Float32:
        threads.add(threading.get_ident())
        return ids(part)

    return look_up


def predict(pipelined: PipelinedParts, batch: Batch) -> Float32:
    return pipelined.compute(pipelined.look_up(batch))


@pytest.mark.parametrize("parts", [2, 3, 16])
@pytest.mark.parametrize("samples", [1, 2, 3, 5, 16, 17, 100])
def test_scores_come_back_in_the_order_of_the_query(split: Split, samples: int, parts: int) -> None:
    batch = split.batch(np.arange(130, 130 + samples))
    seen: list[int] = []

    def compute(found: Float32) -> Float32:
        seen.append(len(found))
        return found

    pipelined = PipelinedParts(Steps(look_up=ids, compute=compute), parts)
    np.testing.assert_array_equal(predict(pipelined, batch), ids(batch))
    assert sum(seen) == samples and len(seen) == min(parts, samples)
    assert max(seen) - min(seen) <= 1 and min(seen) > 0


def test_spans_are_even_and_none_is_empty() -> None:
    assert even_spans(10, 4) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert even_spans(3, 16) == [(0, 1), (1, 2), (2, 3)]
    assert even_spans(1, 2) == [(0, 1)]
    assert even_spans(0, 2) == [(0, 0)]


def test_the_next_part_is_looked_up_while_the_first_is_computed(split: Split) -> None:
    """A compute of the first part and a lookup of the second that both wait for the other."""
    owner, both, computed = threading.get_ident(), threading.Barrier(2, timeout=10.0), list[int]()

    def look_up(part: Batch) -> Float32:
        if threading.get_ident() != owner:
            both.wait()
        return ids(part)

    def compute(found: Float32) -> Float32:
        if not computed:
            both.wait()
        computed.append(len(found))
        return found

    batch = split.batch(np.arange(11))
    pipelined = PipelinedParts(Steps(look_up=look_up, compute=compute), 2)
    np.testing.assert_array_equal(predict(pipelined, batch), ids(batch))
    assert computed == [5, 6]


def test_a_query_of_one_sample_needs_no_second_thread(split: Split) -> None:
    threads = set[int]()
    predict(PipelinedParts(Steps(look_up=noting(threads), compute=np.asarray), 2), split.batch(np.arange(1)))
    assert threads == {threading.get_ident()}


def test_an_error_of_the_second_thread_is_raised_and_the_next_query_is_answered(split: Split) -> None:
    broken = True

    def look_up(part: Batch) -> Float32:
        if broken and threading.current_thread() is not threading.main_thread():
            raise IndexError("field 'category' got the raw id 9")
        return ids(part)

    pipelined = PipelinedParts(Steps(look_up=look_up, compute=np.asarray), 3)
    with pytest.raises(IndexError, match="raw id 9") as caught:
        predict(pipelined, split.batch(np.arange(30)))
    assert "look_up" in [frame.name for frame in caught.traceback]
    broken = False
    np.testing.assert_array_equal(predict(pipelined, split.batch(np.arange(30))), ids(split.batch(np.arange(30))))


def test_second_threads_are_of_one_thread_each_and_end_with_it(split: Split) -> None:
    threads = set[int]()
    pipelined = PipelinedParts(Steps(look_up=noting(threads), compute=np.asarray), 2)
    together, results = threading.Barrier(3, timeout=10.0), list[Float32]()

    def serve() -> None:
        together.wait()
        results.append(predict(pipelined, split.batch(np.arange(20))))
        together.wait()

    for worker in [threading.Thread(target=serve) for _ in range(3)]:
        worker.start()
    for _ in range(1000):
        if len(results) == 3 and not threads & {thread.ident for thread in threading.enumerate()}:
            return
        sleep_s(0.002)
    pytest.fail(f"{len(results)} answers, {len(threads)} threads looked up, and some of them still run")
