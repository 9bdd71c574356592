"""Host evidence: counters move by what was done; a quad is void on outside evidence only."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import process_cpu_ns, sleep_s
from harness.host.validity import (
    HostSample,
    between,
    others_share,
    sample_host,
    void_reasons,
    void_reasons_of_training,
)

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


def test_what_others_used_between_two_quiet_probes_voids_a_quad() -> None:
    assert void_reasons(0.0, [MS, MS], 25 * MS, 0.05) == ()
    said = void_reasons(0.03, [MS, 9 * MS], 25 * MS, 0.051)
    assert [reason.partition(" ")[0] for reason in said] == ["steal", "null", "other"]
    assert said[-1] == "other processes used 5.1% of core time, above 5.0%"


@given(busy=st.floats(0, 1), own=st.floats(0, 1), seconds=st.floats(0.1, 100))
def test_others_used_what_is_left_of_the_busy_time(busy: float, own: float, seconds: float) -> None:
    cores = os.cpu_count() or 1
    found = others_share({"busy_share": busy, "seconds": seconds}, int(own * cores * seconds * 1e9))
    assert found == pytest.approx(max(0.0, busy - own), abs=1e-6)


def test_a_process_that_nobody_counts_is_seen() -> None:
    """It uses a core for half a second, or what others leave it of one: that is in the share."""
    first, own_ns = sample_host({}), -process_cpu_ns(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burner:
        sleep_s(0.5)
        used_ns = process_cpu_ns(burner.pid)
        host = between(first, sample_host({}))
        own_ns += process_cpu_ns(os.getpid())
        burner.kill()
    cores_ns = host["seconds"] * 1e9 * (os.cpu_count() or 1)
    assert others_share(host, own_ns) > 0.5 * used_ns / cores_ns - 0.02
    assert others_share(host, int(host["busy_share"] * cores_ns) + 1) == 0.0
