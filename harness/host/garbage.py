"""Garbage collections of an interpreter and the pauses that they make (R13)."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.clock import now_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Collections:
    """How many collections ran, how long all of them took together, and the longest one."""

    count: int = 0
    total_ns: int = 0
    longest_ns: int = 0

    def __add__(self, other: Collections) -> Collections:
        return Collections(
            count=self.count + other.count,
            total_ns=self.total_ns + other.total_ns,
            longest_ns=max(self.longest_ns, other.longest_ns),
        )


def watch_collections(note: Callable[[Collections], None]) -> Callable[[], None]:
    """Have ``note`` called after every collection of this process, with that one; returns what ends the watch.

    It is called in the thread that collects, between start and end of whatever that thread was doing.
    """
    start_ns = 0

    def heard(phase: str, info: dict[str, Any]) -> None:
        nonlocal start_ns
        if phase == "start":
            start_ns = now_ns()
        else:
            pause_ns = now_ns() - start_ns
            note(Collections(count=1, total_ns=pause_ns, longest_ns=pause_ns))

    gc.callbacks.append(heard)
    return lambda: gc.callbacks.remove(heard)
