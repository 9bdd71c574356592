"""The SUT's queue: order, splitting, merging, waiting, workers, cancelling. The ring's both ends in this process."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest

from harness.clock import sleep_s
from harness.sut.dispatch import Dispatcher
from harness.sut.ring_server import RingServer
from harness.traffic.ring_client import QueryLog, RingClient
from harness.traffic.segment import Status
from harness.transport.slots import RingShape, create_shared
from harness.transport.wire import encode, payload_bound
from optimizations.contract import Dispatch
from zoo.schema import Batch, Float32, Split


def signature(batch: Batch) -> Float32:
    """A number for each sample that depends on its user, history and item, and on nothing else in the batch."""
    user = batch.user.ids[:, 0] + 3 * np.diff(batch.history_offsets)
    own = batch.item.bag_offsets[2::2] - batch.item.bag_offsets[:-2:2]
    return (user[batch.user_of] * 7 + batch.item.ids[:, 1] + own).astype(np.float32)


class Served:
    """A dispatcher in threads behind a ring, and what it was asked to predict."""

    def __init__(self, split: Split, dispatch: Dispatch, workers: int, pause: Callable[[Batch], None]) -> None:
        self.split, self.calls = split, list[int]()
        self.errors: list[BaseException] = []
        shape = RingShape(slots=64, request_bytes=payload_bound([split], 100), max_samples=100)
        memory = create_shared(shape.total_bytes, "test-ring")
        take_requests, put_requests = os.pipe()
        take_done, put_done = os.pipe()
        self.server = RingServer(shape, os.dup(memory), take_requests, put_done)
        self.client = RingClient(shape, memory, put_requests, take_done)
        self.threads: set[int] = set()

        def predict(batch: Batch) -> Float32:
            self.calls.append(len(batch))
            self.threads.add(threading.get_ident())
            pause(batch)
            return signature(batch)

        self.dispatcher = Dispatcher(self.server, predict, dispatch, workers)

    def ask(self, queries: list[np.ndarray]) -> list[Float32]:
        """Send all queries, then let the dispatcher run until they are answered; the scores of each."""
        client = self.client
        client.begin(QueryLog([len(samples) for samples in queries]))
        for index, samples in enumerate(queries):
            client.send(index, memoryview(encode(self.split.batch(samples))))
        runner = threading.Thread(target=self.dispatcher.run, args=(self.errors.append,), daemon=True)
        runner.start()
        for _ in range(2000):
            client.receive()
            if not client.in_flight or self.errors:
                break
            sleep_s(0.002)
        columns = client.log.arrays()
        bounds = columns["score_offsets"]
        return [columns["scores"][a:b] for a, b in itertools.pairwise(bounds)]


QUERIES = [np.arange(0, 10), np.arange(130, 160), np.arange(200, 300), np.array([5]), np.arange(110, 130)]


def _expected(split: Split) -> list[Float32]:
    return [signature(split.batch(samples)) for samples in QUERIES]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "dispatch",
    [
        Dispatch(),
        Dispatch(split=16),
        Dispatch(batch=3),
        Dispatch(split=7, batch=4, wait_ms=2.0),
        Dispatch(split=1, batch=64, wait_ms=1.0),
    ],
)
def test_scores_do_not_depend_on_splitting_merging_or_workers(split: Split, dispatch: Dispatch, workers: int) -> None:
    served = Served(split, dispatch, workers, lambda batch: None)
    scores = served.ask(QUERIES)
    assert not served.errors
    for got, expected in zip(scores, _expected(split), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert served.client.log.status == [Status.ANSWERED] * 5
    assert sum(served.calls) == 161


def test_without_options_queries_are_served_whole_and_in_order(split: Split) -> None:
    served = Served(split, Dispatch(), 1, lambda batch: None)
    served.ask(QUERIES)
    assert served.calls == [10, 30, 100, 1, 20]
    assert served.client.log.started == sorted(served.client.log.started)
    assert served.client.log.worker == [0] * 5


def test_splitting_cuts_at_the_limit(split: Split) -> None:
    served = Served(split, Dispatch(split=32), 1, lambda batch: None)
    served.ask(QUERIES)
    assert served.calls == [10, 30, 32, 32, 32, 4, 1, 20]


def test_merging_takes_what_has_arrived_up_to_the_limit(split: Split) -> None:
    served = Served(split, Dispatch(batch=3), 1, lambda batch: None)
    served.ask(QUERIES)
    assert served.calls == [10 + 30 + 100, 1 + 20]


def test_waiting_for_company_merges_later_arrivals(split: Split) -> None:
    served = Served(split, Dispatch(batch=2, wait_ms=2000.0), 1, lambda batch: None)
    client = served.client
    client.begin(QueryLog([3, 4]))
    client.send(0, memoryview(encode(split.batch(np.arange(3)))))
    threading.Thread(target=served.dispatcher.run, args=(served.errors.append,), daemon=True).start()
    sleep_s(0.1)
    assert served.calls == []
    client.send(1, memoryview(encode(split.batch(np.arange(4)))))
    while client.in_flight:
        client.receive()
        sleep_s(0.001)
    assert served.calls == [7]


def test_several_workers_overlap(split: Split) -> None:
    together = threading.Barrier(3, timeout=10.0)
    served = Served(split, Dispatch(), 3, lambda batch: together.wait() and None)
    served.ask(QUERIES[:3])
    assert not served.errors
    assert sorted(served.client.log.worker) == [0, 1, 2]
    assert len(served.threads) == 3


def test_cancelled_queries_are_not_computed(split: Split) -> None:
    served = Served(split, Dispatch(split=8), 1, lambda batch: None)
    client = served.client
    client.begin(QueryLog([20, 20]))
    client.send(0, memoryview(encode(split.batch(np.arange(20)))))
    client.abandon()
    client.send(1, memoryview(encode(split.batch(np.arange(20)))))
    threading.Thread(target=served.dispatcher.run, args=(served.errors.append,), daemon=True).start()
    while client.in_flight:
        client.receive()
        sleep_s(0.001)
    assert served.calls == [8, 8, 4]
    assert client.log.status[1] == Status.ANSWERED
    assert len(client.free) == 64


def test_a_wrong_number_of_scores_is_an_error_that_names_it(split: Split) -> None:
    served = Served(split, Dispatch(), 1, lambda batch: None)
    served.dispatcher.predict = lambda batch: np.zeros(3, np.float32)
    served.ask([np.arange(10)])
    assert "answered (3,) for a batch of 10 samples" in str(served.errors[0])


def test_the_end_of_input_ends_every_worker(split: Split) -> None:
    served = Served(split, Dispatch(batch=4, wait_ms=1.0), 3, lambda batch: None)
    served.ask(QUERIES)
    before = threading.active_count()
    served.client.close()
    for _ in range(1000):
        if threading.active_count() <= before - 3:
            break
        sleep_s(0.002)
    assert threading.active_count() <= before - 3
    assert not served.errors
