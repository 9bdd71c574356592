"""Process groups: nothing runs while frozen, nothing survives the end, nobody hides. Real processes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.clock import process_cpu_ns, sleep_s
from harness.host.freezer import ControlGroup
from harness.host.processes import ProcessGroup, ProcessStat, read_stat, thread_states
from harness.host.scheduling import available_cores, cpu_sets, pinned
from tests.waiting import until

BURN = "while True: pass"
BURN_IN_THREADS = (
    "import threading\nfor _ in range(3): threading.Thread(target=lambda: exec('while True: pass')).start()"
)
BURN_IN_CHILD = "import os\nos.fork()\nwhile True: pass"
BURN_IN_OTHER_SESSION = "import os\nif os.fork() == 0: os.setsid()\nwhile True: pass"
BURN_AS_DAEMON = """import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: pass
    os._exit(0)
os.wait()
time.sleep(100)"""
BURN_WITHOUT_FIRST_THREAD = """import ctypes, platform, threading
threading.Thread(target=exec, args=("while True: pass",)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # exit(2): this thread only"""
BURN_WITHOUT_A_TRACE = f"""import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-c", "{BURN}"], {{}})
    os._exit(0)
os.wait()
time.sleep(100)"""
FILL_MEMORY = """import time
x = bytearray(80_000_000)
x[::4096] = b"1" * len(x[::4096])
print("full", flush=True)
time.sleep(100)"""
Start = Callable[[str], ProcessGroup]


def _has_control_groups() -> bool:
    group = ControlGroup.create("probe")
    if group is not None:
        group.remove()
    return group is not None


@pytest.fixture(params=["cgroup", "sigstop"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    if request.param == "cgroup" and not _has_control_groups():
        pytest.skip("no cgroup v2 that this user may write to")
    groups: list[ProcessGroup] = []

    def _start(code: str) -> ProcessGroup:
        argv = [sys.executable, "-c", code]
        log = tempfile.TemporaryFile()  # noqa: SIM115
        control = request.param == "cgroup"
        started = ProcessGroup.start(
            argv, cores=available_cores(), descriptors=(), environment={}, log=log, control_group=control
        )
        groups.append(started)
        assert started.frozen_by == request.param
        return started

    yield _start
    for group in groups:
        group.kill()


@pytest.mark.parametrize(
    "code",
    [BURN, BURN_IN_THREADS, BURN_IN_CHILD, BURN_IN_OTHER_SESSION, BURN_AS_DAEMON, BURN_WITHOUT_FIRST_THREAD],
    ids=["plain", "threads", "child", "session", "daemon", "no-first-thread"],
)
def test_frozen_cpu_time_does_not_move_by_a_nanosecond(start: Start, code: str) -> None:
    group = start(code)
    until(lambda: group.cpu_ns() > 150_000_000)
    group.freeze()
    frozen = group.cpu_ns()
    sleep_s(0.25)
    assert group.cpu_ns() == frozen
    group.thaw()
    until(lambda: group.cpu_ns() > frozen + 50_000_000)


@pytest.mark.parametrize(
    "code",
    [BURN, BURN_IN_CHILD, BURN_IN_OTHER_SESSION, BURN_AS_DAEMON, BURN_WITHOUT_FIRST_THREAD],
    ids=["plain", "child", "session", "daemon", "no-first-thread"],
)
def test_killing_leaves_nobody(start: Start, code: str) -> None:
    group = start(code)
    until(lambda: group.cpu_ns() > 150_000_000)
    pids = [stat.pid for stat in group.members()]
    assert len(pids) == (2 if "fork" in code else 1)
    group.freeze()
    group.kill()
    assert {pid: thread_states(pid) for pid in pids if set(thread_states(pid)) - {"Z", "X"}} == {}
    group.kill()


def test_who_was_seen_once_is_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes a dying process's environment, and with it the mark, before the process has ended."""
    group = start(BURN_AS_DAEMON)
    until(lambda: group.cpu_ns() > 150_000_000)
    everyone, calls = group.members(), []

    def members_once(_: ProcessGroup) -> list[ProcessStat]:
        calls.append(1)
        return everyone if len(calls) == 1 else []

    monkeypatch.setattr(ProcessGroup, "members", members_once)
    group.kill()
    for stat in everyone:
        assert not set(thread_states(stat.pid)) - {"Z", "X"}


def test_who_leaves_session_parent_and_environment_behind_is_in_the_control_group(start: Start) -> None:
    group = start(BURN_WITHOUT_A_TRACE)
    if group.frozen_by == "sigstop":
        pytest.skip("only a control group sees it")
    until(lambda: len(group.members()) == 2 and group.cpu_ns() > 150_000_000)
    (hidden,) = {stat.pid for stat in group.members()} - {group.pid}
    stat = read_stat(hidden)
    assert stat is not None and stat.session != group.pid and not Path(f"/proc/{hidden}/environ").read_bytes()
    group.freeze()
    frozen = process_cpu_ns(hidden)
    sleep_s(0.25)
    assert process_cpu_ns(hidden) == frozen
    group.kill()
    assert not set(thread_states(hidden)) - {"Z", "X"}


def test_no_signal_wakes_a_frozen_control_group(start: Start) -> None:
    group = start(BURN)
    until(lambda: group.cpu_ns() > 150_000_000)
    group.freeze()
    frozen = group.cpu_ns()
    os.kill(group.pid, signal.SIGCONT)
    if group.frozen_by == "cgroup":
        sleep_s(0.25)
        assert group.cpu_ns() == frozen
    else:
        until(lambda: group.cpu_ns() > frozen + 50_000_000)


def test_who_has_left_the_control_group_is_frozen_all_the_same(start: Start) -> None:
    group = start(BURN_IN_OTHER_SESSION)
    until(lambda: len(group.members()) == 2)
    elsewhere = ControlGroup.create("elsewhere") if group.frozen_by == "cgroup" else None
    if elsewhere is None:
        pytest.skip("no control group to leave")
    for stat in group.members():
        assert elsewhere.add(stat.pid)
    group.freeze()
    frozen = group.cpu_ns()
    sleep_s(0.25)
    assert group.cpu_ns() == frozen
    assert not elsewhere.pids()
    elsewhere.remove()


def test_members_still_die_when_the_first_process_is_gone(start: Start) -> None:
    group = start("import os, time\nif os.fork(): os._exit(3)\ntime.sleep(100)")
    until(lambda: group.ending() != "")
    (orphan,) = [stat.pid for stat in group.members() if stat.state not in "ZX"]
    group.kill()
    until(lambda: read_stat(orphan) is None or read_stat(orphan).state in "ZX")  # type: ignore[union-attr]
    assert group.ending() == "exited with code 3"


def test_cpu_time_counts_children_that_have_ended(start: Start) -> None:
    code = """import os, time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
os.wait()
print("reaped", flush=True)
time.sleep(100)"""
    group = start(code)
    until(lambda: group.log_tail() == "reaped")
    assert group.cpu_ns() >= 280_000_000
    assert process_cpu_ns(group.pid) < 280_000_000


def test_how_a_process_ended_is_said_in_words(start: Start) -> None:
    group = start("import sys; print('last words'); sys.exit(7)")
    until(lambda: group.ending() != "")
    assert group.ending() == "exited with code 7"
    assert group.log_tail() == "last words"
    killed = start(BURN)
    killed.kill()
    assert killed.ending() == "was killed by signal SIGKILL"


def test_memory_of_a_group_is_that_of_its_members(start: Start) -> None:
    group = start(FILL_MEMORY)
    until(lambda: group.log_tail() == "full")
    status = Path(f"/proc/{group.pid}/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    assert group.rss_bytes() == pytest.approx(resident, rel=0.02)
    assert group.rss_bytes() > 80_000_000


def test_the_one_rule_for_cores() -> None:
    assert cpu_sets((0, 1)).sender == cpu_sets((0, 1)).sut == (0, 1)
    assert cpu_sets((4, 5, 6)).sut == (4, 5, 6)
    sets = cpu_sets((0, 1, 2, 3))
    assert (sets.sender, sets.sut) == ((3,), (0, 1, 2))
    assert cpu_sets(tuple(range(16))).sender == (15,)


def test_children_inherit_the_cores(start: Start) -> None:
    core = available_cores()[-1:]
    with pinned(core):
        inside = os.sched_getaffinity(0)
    assert inside == set(core)
    assert os.sched_getaffinity(0) == set(available_cores())
    argv = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
    with tempfile.TemporaryFile() as log:
        group = ProcessGroup.start(argv, cores=core, descriptors=(), environment={}, log=log)
        group.process.wait()
        assert group.log_tail() == str(list(core))
