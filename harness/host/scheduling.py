"""What a child process asks of the operating system for itself, and the one rule that shares the cores."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
PR_SET_TIMERSLACK = 29
FEWEST_CORES_TO_SHARE_OUT = 4


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when process ``parent`` ends (Linux; elsewhere the closed channel tells)."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent process is gone")


def sharpen_timers() -> None:
    """Ask for wake-ups without the default 50 us of slack."""
    _prctl(PR_SET_TIMERSLACK, 1)


def raise_priority() -> str:
    """Real-time priority if allowed, else nice -10, else nothing; returns which ("fifo", "nice", "normal")."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "fifo"
    except (AttributeError, OSError):
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        return "nice"
    except OSError:
        return "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSets:
    """Cores of the sender and cores of every SUT."""

    sender: tuple[int, ...]
    sut: tuple[int, ...]


def cpu_sets(cores: tuple[int, ...]) -> CpuSets:
    """R2: with four cores or more the sender has the last one for itself; with fewer all share all."""
    if len(cores) >= FEWEST_CORES_TO_SHARE_OUT:
        return CpuSets(sender=cores[-1:], sut=cores[:-1])
    return CpuSets(sender=cores, sut=cores)


def available_cores() -> tuple[int, ...]:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextmanager
def pinned(cores: tuple[int, ...]) -> Iterator[None]:
    """Children started inside inherit ``cores``."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
