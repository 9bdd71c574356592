"""A dispatcher behind a ring whose both ends are in this process."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest

from harness.backends.protocol import Score
from harness.clock import sleep_s
from harness.sut.ring_server import RingServer
from harness.sut.server import Served as ServedSteps
from harness.sut.server import loop_of
from harness.sut.steps import one_step
from harness.traffic.ring_client import QueryLog, RingClient
from harness.transport.flight import Flight
from harness.transport.slots import RingShape, create_shared
from harness.transport.wire import decode, encode, payload_bound
from optimizations.contract import Dispatch
from zoo.schema import Batch, Float32, Split

QUERIES = [np.arange(0, 10), np.arange(130, 160), np.arange(200, 300), np.array([5]), np.arange(110, 130)]


def signature(batch: Batch) -> Float32:
    """A number for each sample that depends on its user, history and item, and on nothing else in the batch."""
    user = batch.user.ids[:, 0] + 3 * np.diff(batch.history_offsets)
    own = batch.item.bag_offsets[2::2] - batch.item.bag_offsets[:-2:2]
    return (user[batch.user_of] * 7 + batch.item.ids[:, 1] + own).astype(np.float32)


class Served:
    """A dispatcher in threads behind a ring, and what it was asked to predict."""

    def __init__(
        self,
        split: Split,
        dispatch: Dispatch,
        workers: int = 1,
        pause: Callable[[Batch], None] = lambda batch: None,
        refuse: Callable[[Batch], bool] | None = None,
    ) -> None:
        """With ``refuse``, queries are scored in their slots, but for those that it refuses or that are malformed."""
        self.split, self.calls = split, list[int]()
        self.errors: list[BaseException] = []
        shape = RingShape(slots=64, request_bytes=payload_bound([split], 100), max_samples=100)
        memory = create_shared(shape.total_bytes, "test-ring")
        take_requests, put_requests = os.pipe()
        take_done, put_done = os.pipe()
        self.server = RingServer(shape, os.dup(memory), take_requests, put_done)
        self.client = RingClient(shape, memory, put_requests, take_done, Flight())
        self.threads: set[int] = set()

        def predict(batch: Batch) -> Float32:
            self.calls.append(len(batch))
            self.threads.add(threading.get_ident())
            pause(batch)
            return signature(batch)

        def bind(payload: memoryview, scores: memoryview) -> Score:
            def score(size: int) -> int:
                self.sizes.append(size)
                try:
                    batch = decode(payload[:size])
                except ValueError:
                    return -1
                if refuse is None or refuse(batch):
                    return -1
                scores[: 4 * len(batch)] = predict(batch).tobytes()
                return len(batch)

            return score

        self.sizes = list[int]()
        steps = one_step(predict, None if refuse is None else bind)
        self.dispatcher = loop_of(self.server, ServedSteps(steps=steps, dispatch=dispatch, workers=workers))

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

    def ask_all(self) -> list[Float32]:
        """``ask`` for ``QUERIES``, and check what was answered."""
        scores = self.ask(QUERIES)
        assert not self.errors
        for got, samples in zip(scores, QUERIES, strict=True):
            np.testing.assert_array_equal(got, signature(self.split.batch(samples)))
        return scores


@pytest.fixture
def serve(split: Split) -> Callable[..., Served]:
    """Makes a ``Served`` of the shared split."""
    return functools.partial(Served, split)
