"""Whose turn it is: queries are computed in the order of their taking, as many at a time as there are workers."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

Work = TypeVar("Work")


@dataclass(slots=True, kw_only=True)
class Turn(Generic[Work]):
    """The place of one query. worker: who computes it, once that is known. left: work that is prepared for whoever is
    free, and how to say that it was taken over."""

    worker: int | None = None
    left: tuple[Work, SimpleQueue[None]] | None = None


class Turns(Generic[Work]):
    """``workers`` computations at one time, first in, first out.

    A thread that is free goes on with what another one has prepared: under load, some threads compute and keep the
    weights in their caches, the others prepare, and nobody has to be woken up between two computations.
    """

    def __init__(self, workers: int) -> None:
        self._free = deque(range(workers))
        self._waiting: deque[Turn[Work]] = deque()
        self._lock = threading.Lock()

    def queue_up(self) -> Turn[Work]:
        """The turn of a query that was just taken; to be called in the order of taking."""
        with self._lock:
            if self._free:
                return Turn(worker=self._free.popleft())
            turn: Turn[Work] = Turn()
            self._waiting.append(turn)
            return turn

    def claim(self, turn: Turn[Work], work: Work) -> int | None:
        """``work`` is prepared: the worker as which the caller computes it now.

        None: no worker was free; the call has waited until another thread took the work over.
        """
        with self._lock:
            if turn.worker is not None:
                return turn.worker
            taken_over: SimpleQueue[None] = SimpleQueue()
            turn.left = (work, taken_over)
        taken_over.get()
        return None

    def go_on(self, worker: int) -> Work | None:
        """The caller has computed as ``worker``, and computes what is returned next, if anything.

        The query that waits longest has the worker; if it is not prepared, the thread that prepares it goes on with it.
        """
        with self._lock:
            if not self._waiting:
                self._free.append(worker)
                return None
            turn = self._waiting.popleft()
            if turn.left is None:
                turn.worker = worker
                return None
        work, taken_over = turn.left
        taken_over.put(None)
        return work
