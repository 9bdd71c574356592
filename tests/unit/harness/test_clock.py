"""The clock: planned wake-ups are never early, CPU clocks agree with the kernel's accounts."""

from __future__ import annotations

import os
import resource

import pytest

from harness.clock import now_ns, process_cpu_ns, sleep_s, sleep_until_ns, thread_cpu_ns


def test_sleep_until_is_never_early() -> None:
    for wait_ns in (0, 30_000, 200_000, 3_000_000):
        moment = now_ns() + wait_ns
        sleep_until_ns(moment)
        assert now_ns() >= moment


def test_a_moment_in_the_past_returns_at_once() -> None:
    before = process_cpu_ns(os.getpid())
    sleep_until_ns(now_ns() - 10**12)
    assert process_cpu_ns(os.getpid()) - before < 50_000_000


def test_process_cpu_agrees_with_getrusage() -> None:
    def used() -> int:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return int((usage.ru_utime + usage.ru_stime) * 1e9)

    before = used()
    ours = process_cpu_ns(os.getpid())
    after = used()
    assert before - 2_000_000 <= ours <= after + 2_000_000


def test_thread_cpu_counts_work_and_not_waiting() -> None:
    def used() -> int:
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        return int((usage.ru_utime + usage.ru_stime) * 1e9)

    before = used()
    ours = thread_cpu_ns()
    assert before - 2_000_000 <= ours <= used() + 2_000_000
    sleep_s(0.05)
    assert thread_cpu_ns() - ours < 25_000_000


def test_process_cpu_of_nobody_is_an_error() -> None:
    with pytest.raises(ProcessLookupError):
        process_cpu_ns(2**22 + 12345)
