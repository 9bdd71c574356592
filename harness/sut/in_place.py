"""Queries that are scored where they lie: one call reads a slot's payload and writes the slot's scores.

First in, first out, each by the worker that took it. Only one thread reads at a time, as in ``dispatch``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from harness.backends.protocol import Bind
from harness.clock import now_ns
from harness.sut.ring_server import Request, RingServer
from harness.sut.steps import Steps
from harness.sut.threads import run_threads
from harness.transport.slots import CANCELLED, GOOD
from harness.transport.wire import decode
from zoo.schema import Float32

NO_SCORES = np.zeros(0, np.float32)


class InPlace:
    """Serves a ring by what ``bind`` makes of each slot. ``steps`` answer, or refuse, what that cannot score."""

    def __init__(self, server: RingServer, steps: Steps, bind: Bind, workers: int) -> None:
        self.server, self.steps, self.workers = server, steps, workers
        self._score = [bind(*server.areas(slot)) for slot in range(server.shape.slots)]
        self._waiting: deque[Request] = deque()
        self._intake = threading.Lock()

    def run(self, failed: Callable[[BaseException], None]) -> None:
        """Serve on this thread and ``workers`` - 1 more, and return when all have ended.

        ``failed`` gets the first exception of any of them.
        """
        run_threads(self._work, self.workers, failed)

    def _work(self, worker: int) -> None:
        server, score = self.server, self._score
        while (request := self._next()) is not None:
            started = now_ns()
            samples = score[request.slot](len(request.payload))
            if samples >= 0:
                server.announce(request, samples, GOOD, started, worker)
            else:
                server.answer(request, self._scores_of(request), GOOD, started, worker)

    def _next(self) -> Request | None:
        """The oldest query that somebody waits for; None at the end of input."""
        waiting, server = self._waiting, self.server
        with self._intake:
            while True:
                while not waiting:
                    arrived = server.take()
                    if arrived is None:
                        return None
                    waiting.extend(arrived)
                request = waiting.popleft()
                if request.sequence >= server.cancelled_before():
                    return request
                server.answer(request, NO_SCORES, CANCELLED, -1, -1)

    def _scores_of(self, request: Request) -> Float32:
        """Scores [N] by way of a batch. Raises ValueError for a malformed payload, and what the model raises."""
        batch = decode(request.payload)
        scores = self.steps.predict(batch)
        if scores.shape != (len(batch),):
            raise ValueError(f"the model answered {scores.shape} for a batch of {len(batch)} samples")
        return scores
