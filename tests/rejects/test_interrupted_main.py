"""Ctrl-C, SIGTERM and SIGKILL of the main process: no orphan, no file in shared memory, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.clock import sleep_s
from harness.host.processes import read_stat

PROGRAM = str(Path(__file__).with_name("main_with_children.py"))


def _running(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state not in "ZX"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_main_process(number: signal.Signals) -> None:
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    main = subprocess.Popen([sys.executable, PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert main.stdout is not None
    pids = [int(word) for word in main.stdout.readline().split()]
    assert len(pids) == 3 and all(_running(pid) for pid in pids)
    sleep_s(0.3)
    main.send_signal(number)
    _, errors = main.communicate(timeout=20)
    for _ in range(400):
        if not any(_running(pid) for pid in pids):
            break
        sleep_s(0.005)
    assert [pid for pid in pids if _running(pid)] == []
    assert main.returncode != 0
    if number != signal.SIGKILL:
        assert errors.rstrip().endswith("KeyboardInterrupt")
    if os.path.isdir("/dev/shm"):
        assert {name for name in set(os.listdir("/dev/shm")) - shared if "recarena" in name} == set()


def test_children_do_not_get_the_terminals_interrupt() -> None:
    main = subprocess.Popen([sys.executable, PROGRAM], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert main.stdout is not None
    pids = [int(word) for word in main.stdout.readline().split()]
    stats = [read_stat(pid) for pid in pids]
    assert all(stat is not None and stat.group == stat.pid and stat.session == main.pid for stat in stats)
    os.killpg(main.pid, signal.SIGKILL)
    main.communicate(timeout=20)
