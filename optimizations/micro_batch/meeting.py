"""Threads that need something of each other: each brings its share, and all leave with everybody's."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Meeting(Generic[T]):
    """``parties`` threads, each with a place. All have to come as often, and bring the same in the same order.

    A thread that fails has to call ``give_up``: the others then raise ``threading.BrokenBarrierError``.
    """

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self._barrier = threading.Barrier(parties)
        # Two tables: whoever is one meeting ahead writes to the one that nobody reads any more.
        self._tables: tuple[list[T | None], list[T | None]] = ([None] * parties, [None] * parties)
        self._visits = [0] * parties

    def exchange(self, place: int, brought: T) -> list[T]:
        """What all have brought, in order of their places."""
        table = self._tables[self._visits[place] % 2]
        self._visits[place] += 1
        table[place] = brought
        self._barrier.wait()
        return list(table)  # type: ignore[arg-type]

    def give_up(self) -> None:
        """Wake whoever waits, and let nobody wait any more."""
        self._barrier.abort()
