"""The only clock of the package. All stamps are CLOCK_MONOTONIC nanoseconds, comparable between processes."""

from __future__ import annotations

import time

SPIN_NS = 60_000
"""Longest busy wait before a planned moment; the rest of a wait is slept."""


now_ns = time.monotonic_ns  # noqa: TID251
"""Nanoseconds of CLOCK_MONOTONIC (bound directly: one call less in hot loops)."""


def unix_s() -> float:
    """Seconds since 1970, for dates in records only; it may step."""
    return time.time()  # noqa: TID251


def sleep_s(seconds: float) -> None:
    """Sleep at least ``seconds``."""
    time.sleep(seconds)


def sleep_until_ns(moment_ns: int, spin_ns: int = SPIN_NS) -> None:
    """Return at ``moment_ns``: sleep until ``spin_ns`` before it, then spin. Returns at once if it has passed."""
    remaining = moment_ns - spin_ns - now_ns()
    while remaining > 0:
        time.sleep(remaining * 1e-9)
        remaining = moment_ns - spin_ns - now_ns()
    while now_ns() < moment_ns:
        pass


def thread_cpu_ns() -> int:
    """User + system time of the calling thread: what its work took, however long others kept it off the core."""
    return time.thread_time_ns()


def process_cpu_ns(pid: int) -> int:
    """User + system time of process ``pid``, all its threads, the ended ones included.

    Linux: the per-process CPU clock, whose id is ``~pid << 3 | 2`` (clock_getcpuclockid(3)).
    Raises ProcessLookupError when there is no such process.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error
