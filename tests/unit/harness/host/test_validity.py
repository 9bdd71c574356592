"""Host evidence: counters move by what was done; a quad is void on outside evidence only."""

from __future__ import annotations

import mmap
import os

import pytest

from harness.clock import sleep_s
from harness.host.validity import HostSample, between, sample_host, void_reasons, void_reasons_of_training

PAGES = 2000
MS = 1_000_000


def test_page_faults_and_switches_are_seen() -> None:
    me = {"me": [os.getpid()]}
    first = sample_host(me)
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(PAGES):
            memory[page * mmap.PAGESIZE] = 1
    for _ in range(20):
        sleep_s(0.001)
    seen = between(first, sample_host(me))
    assert PAGES <= seen["sides"]["me"]["minor_faults"] < 3 * PAGES
    assert seen["sides"]["me"]["voluntary_switches"] >= 20
    assert 0.02 <= seen["seconds"] < 60
    assert 0.0 <= seen["steal_share"] <= 1.0


def _sample(at_ns: int, total: int, steal: int, stalled_us: int, busy: int = 0) -> HostSample:
    return HostSample(
        at_ns=at_ns,
        busy_ticks=busy,
        total_ticks=total,
        steal_ticks=steal,
        pressure_us={"cpu": stalled_us},
        frequency_mhz=None,
        sides={},
    )


def test_shares_are_ratios_of_differences() -> None:
    seen = between(_sample(0, 1000, 10, 500, 700), _sample(2_000_000_000, 1400, 30, 100_500, 900))
    assert seen["steal_share"] == pytest.approx(20 / 400)
    assert seen["busy_share"] == pytest.approx(200 / 400)
    assert seen["pressure_share"] == {"cpu": pytest.approx(0.05)}
    assert seen["seconds"] == pytest.approx(2.0)
    assert seen["frequency_mhz"] == [None, None]


@pytest.mark.parametrize(
    ("steal", "others", "expected"),
    [
        (0.02, 0.05, ()),
        (0.03, 0.0, ("steal 3.0% of core time, above 2.0%",)),
        (0.0, 0.07, ("other processes used 7.0% of core time, above 5.0%",)),
    ],
)
def test_void_reasons_of_a_training(steal: float, others: float, expected: tuple[str, ...]) -> None:
    assert void_reasons_of_training(steal, others) == expected


@pytest.mark.parametrize(
    ("steal", "probes", "expected"),
    [
        (0.0, [0.5 * MS, 0.9 * MS], ()),
        (0.02, [2.5 * MS], ()),
        (0.021, [0.5 * MS], ("steal 2.1% of core time, above 2.0%",)),
        (0.0, [0.5 * MS, 2.6 * MS], ("null probe p99 2.60 ms, above 2.50 ms",)),
        (0.5, [9 * MS], ("steal 50.0% of core time, above 2.0%", "null probe p99 9.00 ms, above 2.50 ms")),
    ],
)
def test_void_reasons(steal: float, probes: list[float], expected: tuple[str, ...]) -> None:
    assert void_reasons(steal, probes, 25 * MS) == expected
