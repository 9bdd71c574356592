"""Cores that do not halt: who decides, and what the loop takes from others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clock import now_ns
from harness.errors import ConfigurationError
from harness.host.scheduling import available_cores
from harness.measurement import idle_cores
from harness.measurement.idle_cores import Loop, cores_awake, keeps_awake
from harness.native.awake import REST
from harness.native.library import native_library
from harness.transport.flight import Flight
from optimizations.kernels.loader import NO_COMPILER
from tests.waiting import until

possible = pytest.mark.skipif(
    not hasattr(os, "SCHED_IDLE") or native_library() is None, reason="needs Linux and a C++ compiler"
)


@pytest.fixture
def flight() -> Iterator[Flight]:
    shared = Flight()
    yield shared
    shared.close()


def _loops() -> list[int]:
    """Processes that keep cores awake and were started by this one."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
        except OSError:
            continue
        if b"harness.native.awake" in words and str(os.getpid()).encode() in words:
            found.append(int(folder.name))
    return found


def _until_it_runs(loop: Loop) -> None:
    """Beside tests that use every core it does so rarely."""
    before = loop.cpu_ns()
    until(lambda: loop.cpu_ns() > before)


def _pinned(pid: int) -> dict[int, int]:
    """Threads that run on one core only, by that core."""
    tasks = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    return {next(iter(cores)): task for task in tasks if len(cores := os.sched_getaffinity(task)) == 1}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("virtual", "choice", "expected"), [
    (True, "auto", True), (False, "auto", False), (True, "never", False), (False, "always", True),
])  # fmt: skip
@possible
def test_only_a_virtual_machine_is_kept_awake_unasked(
    virtual: bool, choice: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_cores, "is_virtual", lambda: virtual)
    monkeypatch.setattr(idle_cores, "cpu_quota", lambda: None)
    assert keeps_awake(choice) is expected


def test_without_a_compiler_auto_does_without_and_always_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_cores, "is_virtual", lambda: True)
    monkeypatch.setattr(idle_cores, "cpu_quota", lambda: None)
    monkeypatch.setenv(NO_COMPILER, "1")
    assert keeps_awake("auto") is False
    with pytest.raises(ConfigurationError, match="needs a C\\+\\+ compiler; install one"):
        keeps_awake("always")
    with pytest.raises(ConfigurationError, match="keep_awake=sometimes: choose one of auto, always, never"):
        keeps_awake("sometimes")


@possible
def test_a_limit_of_processor_time_is_left_to_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_cores, "is_virtual", lambda: True)
    cores = len(available_cores())
    monkeypatch.setattr(idle_cores, "cpu_quota", lambda: float(cores))
    assert keeps_awake("auto") and keeps_awake("always")
    monkeypatch.setattr(idle_cores, "cpu_quota", lambda: cores - 0.5)
    assert not keeps_awake("auto")
    with pytest.raises(ConfigurationError, match=f"grants {cores - 0.5:g} of {cores} cores"):
        keeps_awake("always")


@possible
def test_the_loop_uses_idle_cores_gives_way_and_ends(flight: Flight) -> None:
    """Beside one busy thread per core of its own session it gets next to nothing: the idle class weighs 3 to 1024."""
    with cores_awake(False, flight):
        assert _loops() == []
    with cores_awake(True, flight) as loop:
        (pid,) = _loops()
        _until_it_runs(loop)
        assert _cpu_s(pid) <= loop.cpu_ns() * 1e-9 + 0.02
        until(lambda: sorted(_pinned(pid)) == sorted(available_cores()))
        assert {os.sched_getscheduler(task) for task in _pinned(pid).values()} == {os.SCHED_IDLE}
        busy = [
            subprocess.Popen(
                [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"],
                process_group=0,
            )
            for core in available_cores()
        ]
        try:
            time.sleep(0.5)
            before, theirs = _cpu_s(pid), sum(_cpu_s(process.pid) for process in busy)
            time.sleep(1.0)
            used, given = _cpu_s(pid) - before, sum(_cpu_s(process.pid) for process in busy) - theirs
        finally:
            for process in busy:
                process.kill()
                process.wait()
        assert used < 0.02 * given
    assert _loops() == []


@possible
def test_the_loop_leaves_a_share_of_all_time_unused(flight: Flight) -> None:
    """It is the loop's whole time that counts: a hypervisor that grants whole cores has its own work to do on them."""
    with cores_awake(True, flight) as loop:
        _until_it_runs(loop)
        before, since = loop.cpu_ns(), now_ns()
        time.sleep(2.0)
        share = (loop.cpu_ns() - before) / (now_ns() - since) / len(available_cores())
    assert share < 1.0 - 0.75 * REST


@possible
def test_there_is_no_loop_while_a_query_is_in_flight(flight: Flight) -> None:
    """The scheduler takes a core with a loop for a busy one, and puts a system's second thread beside the first."""
    with cores_awake(True, flight) as loop:
        for queries in (1, 2):
            flight.set(queries)
            time.sleep(0.1)
            before = loop.cpu_ns()
            time.sleep(0.5)
            assert loop.cpu_ns() - before < 0.1 * 0.5e9 * len(available_cores())
            flight.set(0)
            _until_it_runs(loop)


@possible
def test_a_loop_that_was_ended_by_another_is_remarked(flight: Flight) -> None:
    with cores_awake(False, flight) as loop:
        assert loop.remarks() == [] and loop.cpu_ns() == 0
    with cores_awake(True, flight) as loop:
        assert loop.remarks() == []
        (pid,) = _loops()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert loop.remarks() == [idle_cores.ENDED]


@possible
def test_the_loop_ends_with_its_parent_even_when_that_is_killed() -> None:
    script = (
        "import time\nfrom harness.measurement.idle_cores import cores_awake\n"
        "from harness.transport.flight import Flight\n"
        "with cores_awake(True, Flight()):\n    print('on', flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "on\n"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(1000):
        if not Path(f"/proc/{children[0]}").exists():
            break
        time.sleep(0.01)
    assert not Path(f"/proc/{children[0]}").exists()
