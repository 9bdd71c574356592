"""Whether threads run where and as they were started: on the cores that they were given, before nobody else (R2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress


def liberties(pids: Iterable[int], cores: Iterable[int]) -> tuple[str, ...]:
    """What threads of these processes gave themselves, one phrase each: cores beyond these, and precedence over what
    this process starts. () where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    given, policy, nice = frozenset(cores), _policy(0), os.getpriority(os.PRIO_PROCESS, 0)
    beyond: set[int] = set()
    raised = 0
    for thread in _threads(pids):
        with suppress(OSError):  # it has ended
            beyond |= os.sched_getaffinity(thread) - given
            favoured = _policy(thread) not in (policy, os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)
            raised += favoured or os.getpriority(os.PRIO_PROCESS, thread) < nice
    found = [f"may run on cores {sorted(beyond)}, which it was not given"] if beyond else []
    return (*found, *([f"raised the priority of {raised} of its threads"] if raised else []))


def _policy(thread: int) -> int:
    return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK


def _threads(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        with suppress(OSError):
            yield from map(int, os.listdir(f"/proc/{pid}/task"))
