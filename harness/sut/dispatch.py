"""The queue of a system under test: first in, first out; splits large queries, merges small ones, feeds the workers.

A free worker takes the oldest part, then up to ``batch - 1`` more that have arrived, and waits for company at most
``wait_ms`` after it took the first. Only one worker reads at a time (leader and followers): a query never hops
from one thread to another before it is computed.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.clock import now_ns
from harness.sut.batching import cut_batch, join_batches
from harness.sut.ring_server import Request, RingServer
from harness.transport.slots import CANCELLED, GOOD
from harness.transport.wire import SAMPLES, SAMPLES_OFFSET, decode
from optimizations.contract import Dispatch
from zoo.schema import Batch, Float32

Predict = Callable[[Batch], Float32]
SWITCH_INTERVAL_S = 5e-5
"""Interpreter switch interval with several workers; the default of 5 ms would be in every tail."""
NO_SCORES = np.zeros(0, np.float32)


@dataclass(slots=True)
class Query:
    """A request on its way: ``parts`` are still to be computed; ``scores`` [N] fill up."""

    request: Request
    samples: int
    parts: int
    scores: Float32
    started_ns: int = -1


@dataclass(slots=True)
class Part:
    """Samples [start, stop) of a query."""

    query: Query
    start: int
    stop: int


class Dispatcher:
    """Serves a ring with ``predict`` until the end of input."""

    def __init__(self, server: RingServer, predict: Predict, dispatch: Dispatch, workers: int) -> None:
        self.server, self.predict, self.dispatch = server, predict, dispatch
        self.workers = workers
        self._waiting: deque[Part] = deque()
        self._intake, self._finish = threading.Lock(), threading.Lock()

    def run(self, failed: Callable[[BaseException], None]) -> None:
        """Serve on this thread and ``workers - 1`` more. ``failed`` gets the first exception of any of them."""
        if self.workers > 1:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        for worker in range(1, self.workers):
            threading.Thread(target=self._guarded, args=(worker, failed), daemon=True).start()
        self._guarded(0, failed)

    def _guarded(self, worker: int, failed: Callable[[BaseException], None]) -> None:
        try:
            self._work(worker)
        except Exception as error:
            failed(error)

    def _work(self, worker: int) -> None:
        while True:
            with self._intake:
                unit = self._next_unit()
            if unit is None:
                return
            unit = [part for part in unit if not self._drop_if_cancelled(part)]
            if unit:
                self._compute(unit, worker)

    def _next_unit(self) -> list[Part] | None:
        """The parts that one call of ``predict`` answers; None at the end of input."""
        while not self._waiting:
            if not self._accept(self.server.take()):
                return None
        unit = [self._waiting.popleft()]
        deadline = now_ns() + int(self.dispatch.wait_ms * 1e6)
        while len(unit) < self.dispatch.batch:
            if not self._waiting:
                self._accept(self.server.take(max(0, deadline - now_ns())))
                if not self._waiting:
                    break
            unit.append(self._waiting.popleft())
        return unit

    def _accept(self, requests: list[Request] | None) -> bool:
        """Queue the parts of ``requests``; False at the end of input."""
        for request in requests or ():
            (samples,) = SAMPLES.unpack_from(request.payload, SAMPLES_OFFSET)
            largest = self.dispatch.split or samples
            starts = range(0, samples, largest)
            query = Query(request, samples, len(starts), NO_SCORES)
            if len(starts) > 1:
                query.scores = np.empty(samples, np.float32)
            self._waiting.extend(Part(query, start, min(start + largest, samples)) for start in starts)
        return requests is not None

    def _compute(self, unit: list[Part], worker: int) -> None:
        started = now_ns()
        batch = join_batches([self._batch_of(part) for part in unit])
        scores = self.predict(batch)
        if scores.shape != (len(batch),):
            raise ValueError(f"predict answered {scores.shape} for a batch of {len(batch)} samples")
        position = 0
        for part in unit:
            size = part.stop - part.start
            self._deliver(part, scores[position : position + size], started, worker)
            position += size

    def _batch_of(self, part: Part) -> Batch:
        batch = decode(part.query.request.payload, trusted=True)
        whole = part.stop - part.start == part.query.samples
        return batch if whole else cut_batch(batch, part.start, part.stop)

    def _deliver(self, part: Part, scores: Float32, started_ns: int, worker: int) -> None:
        query = part.query
        if part.stop - part.start == query.samples:
            self.server.answer(query.request, scores, GOOD, started_ns, worker)
            return
        with self._finish:
            query.scores[part.start : part.stop] = scores
            query.started_ns = started_ns if query.started_ns < 0 else min(started_ns, query.started_ns)
            query.parts -= 1
            complete = query.parts == 0
        if complete:
            self.server.answer(query.request, query.scores, GOOD, query.started_ns, worker)

    def _drop_if_cancelled(self, part: Part) -> bool:
        query = part.query
        if query.request.sequence >= self.server.cancelled_before():
            return False
        with self._finish:
            query.parts -= 1
            complete = query.parts == 0
        if complete:
            self.server.answer(query.request, NO_SCORES, CANCELLED, -1, -1)
        return True
