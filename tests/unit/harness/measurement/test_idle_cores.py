"""Cores that do not halt: who decides, and what the loop takes from others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import ConfigurationError
from harness.host.scheduling import available_cores
from harness.measurement import idle_cores
from harness.measurement.idle_cores import cores_awake, keeps_awake
from harness.native.library import native_library
from optimizations.kernels.loader import NO_COMPILER

possible = pytest.mark.skipif(
    not hasattr(os, "SCHED_IDLE") or native_library() is None, reason="needs Linux and a C++ compiler"
)


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
def test_the_loop_uses_idle_cores_gives_way_and_ends() -> None:
    """Beside one busy thread per core of normal priority it gets next to nothing: its session weighs 15 to 1024."""
    with cores_awake(False):
        assert _loops() == []
    with cores_awake(True) as loop:
        (pid,) = _loops()
        time.sleep(0.2)
        assert _cpu_s(pid) <= loop.cpu_ns() * 1e-9 + 0.02 and loop.cpu_ns() > 0
        stats = [path.read_text().rpartition(")") for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        running = [int(head.partition(" ")[0]) for head, _, rest in stats if rest.split()[0] == "R"]
        assert len(running) == len(available_cores())
        assert {os.sched_getscheduler(task) for task in running} == {os.SCHED_IDLE}
        busy = [
            subprocess.Popen(
                [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"],
                start_new_session=True,
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
        assert used < 0.1 * given
    assert _loops() == []


@possible
def test_a_loop_that_was_ended_by_another_is_remarked() -> None:
    with cores_awake(False) as loop:
        assert loop.remarks() == [] and loop.cpu_ns() == 0
    with cores_awake(True) as loop:
        assert loop.remarks() == []
        (pid,) = _loops()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert loop.remarks() == [idle_cores.ENDED]


@possible
def test_the_loop_ends_with_its_parent_even_when_that_is_killed() -> None:
    script = (
        "import time\nfrom harness.measurement.idle_cores import cores_awake\n"
        "with cores_awake(True):\n    print('on', flush=True)\n    time.sleep(60)\n"
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
