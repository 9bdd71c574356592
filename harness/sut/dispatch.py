"""The queue of a system under test: first in, first out; splits large queries, merges small ones, feeds the workers.

A free worker takes the oldest part, then up to ``batch - 1`` more that have arrived, and waits for company at most
``wait_ms`` after it took the first. Only one thread reads at a time (leader and followers): a query that finds a
worker free never hops from one thread to another before it is computed.

With ``stage`` there are two threads to a worker: while one computes, the other takes the next query, looks it up, and
leaves it to the first (``turns``). Nothing waits for a query that has not arrived.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.clock import now_ns
from harness.sut.batching import cut_batch, join_batches
from harness.sut.ring_server import Request, RingServer
from harness.sut.steps import Steps
from harness.sut.threads import run_threads
from harness.sut.turns import Turns
from harness.transport.slots import CANCELLED, GOOD
from harness.transport.wire import SAMPLES, SAMPLES_OFFSET, decode
from optimizations.contract import Dispatch
from zoo.schema import Batch, Float32

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Parts that are computed together, and what was found for them."""

    parts: list[Part]
    found: Any
    started_ns: int


class Dispatcher:
    """Serves a ring in the two ``steps`` of a system until the end of input."""

    def __init__(self, server: RingServer, steps: Steps, dispatch: Dispatch, workers: int) -> None:
        self.server, self.steps, self.dispatch = server, steps, dispatch
        self.threads = workers * (2 if dispatch.stage else 1)
        self._turns: Turns[Unit] = Turns(workers)
        self._waiting: deque[Part] = deque()
        self._intake, self._finish = threading.Lock(), threading.Lock()

    def run(self, failed: Callable[[BaseException], None]) -> None:
        """Serve on this thread and as many more as are needed, and return when all have ended.

        ``failed`` gets the first exception of any of them.
        """
        run_threads(self._work, self.threads, failed, pipelined=self.dispatch.parts > 1)

    def _work(self, thread: int) -> None:
        while True:
            with self._intake:
                parts = self._next_parts()
                if parts is None:
                    return
                turn = self._turns.queue_up()
            started = now_ns()
            found = self.steps.look_up(join_batches([self._batch_of(part) for part in parts]))
            unit = Unit(parts=parts, found=found, started_ns=started)
            worker = self._turns.claim(turn, unit)
            if worker is not None:
                self._compute_from(unit, worker)

    def _next_parts(self) -> list[Part] | None:
        """The parts to compute together, at least one; None at the end of input."""
        parts: list[Part] = []
        while not parts:
            merged = self._merged()
            if merged is None:
                return None
            parts = [part for part in merged if not self._drop_if_cancelled(part)]
        return parts

    def _merged(self) -> list[Part] | None:
        """Up to ``batch`` parts; None at the end of input."""
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
            starts = range(0, samples, largest) if samples else range(1)  # without samples it still wants an answer
            query = Query(request, samples, len(starts), NO_SCORES)
            if len(starts) > 1:
                query.scores = np.empty(samples, np.float32)
            self._waiting.extend(Part(query, start, min(start + largest, samples)) for start in starts)
        return requests is not None

    def _compute_from(self, unit: Unit, worker: int) -> None:
        """Compute this unit, and then what others have prepared meanwhile."""
        todo: Unit | None = unit
        while todo is not None:
            self._compute(todo, worker)
            todo = self._turns.go_on(worker)

    def _compute(self, unit: Unit, worker: int) -> None:
        scores = self.steps.compute(unit.found)
        samples = sum(part.stop - part.start for part in unit.parts)
        if scores.shape != (samples,):
            raise ValueError(f"the model answered {scores.shape} for a batch of {samples} samples")
        position = 0
        for part in unit.parts:
            size = part.stop - part.start
            self._deliver(part, scores[position : position + size], unit.started_ns, worker)
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
