"""Objects that serve one thread at a time, kept for whoever comes next."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class IdlePool(Generic[T]):
    """``ready`` objects of ``make`` from the start, and one more whenever more threads than that want one."""

    def __init__(self, make: Callable[[], T], ready: int) -> None:
        self._make = make
        self._idle = deque(make() for _ in range(ready))

    @contextlib.contextmanager
    def taken(self) -> Iterator[T]:
        """One of them, for this thread alone within the block."""
        try:
            one = self._idle.pop()
        except IndexError:
            one = self._make()
        try:
            yield one
        finally:
            self._idle.append(one)
