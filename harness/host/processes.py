"""Child processes in groups of their own: start, account, freeze, thaw, end. Linux reads ``/proc``."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.clock import now_ns, process_cpu_ns, sleep_s
from harness.host.freezer import ControlGroup
from harness.host.scheduling import pinned

MARK = "RECARENA_GROUP"
"""Environment variable that marks every process of a group, so that one that leaves its session is still found."""
AT_THE_GATE = ("/bin/sh", "-c", 'read -r open || exit 1; exec "$@" < /dev/null', "gate")
"""Holds a child until it is in its control group, so that what it starts at once is in there, too."""
STOPPED_STATES, ENDED_STATES = frozenset("TtZX"), frozenset("ZX")
LOG_TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """The fields of ``/proc/PID/stat`` that are used here (proc(5)); children_cpu_ns is of reaped children.

    started: clock ticks from boot; with the pid it names a process for good.
    """

    pid: int
    started: int
    state: str
    parent: int
    group: int
    session: int
    minor_faults: int
    major_faults: int
    children_cpu_ns: int


def read_stat(pid: int) -> ProcessStat | None:
    """Status of ``pid``; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[13]) + int(fields[14])
    return ProcessStat(
        pid=pid,
        started=int(fields[19]),
        state=fields[0],
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        minor_faults=int(fields[7]),
        major_faults=int(fields[9]),
        children_cpu_ns=ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"),
    )


def thread_states(pid: int) -> str:
    """State letters of all threads of ``pid``; "" when it is gone. A first thread that has ended shows as Z while
    others run on, so that the state of the process alone says too little."""
    states = ""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return ""
    for thread in threads:
        with suppress(OSError):
            states += Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
    return states


class ProcessGroup:
    """A child in a process group of its own, and a control group where the system has them, with all that it starts."""

    def __init__(
        self, process: subprocess.Popen[bytes], mark: str, log: IO[bytes], control: ControlGroup | None = None
    ) -> None:
        self.process, self.mark, self._log, self._control = process, mark, log, control

    @staticmethod
    def start(
        argv: Sequence[str],
        *,
        cores: tuple[int, ...],
        descriptors: Sequence[int],
        environment: Mapping[str, str],
        log: IO[bytes],
        control_group: bool = True,
    ) -> ProcessGroup:
        """Start ``argv`` on ``cores``; stdout and stderr go to ``log``; the process group of its own keeps Ctrl-C away.

        It stays in the session: the kernel first shares a core among sessions (sched(7), autogroups), and among those
        nobody gives way to anybody, not even the loop that keeps cores awake.

        ``control_group`` False: do without one, as on a system that has none.
        """
        mark = uuid.uuid4().hex
        control = ControlGroup.create(mark) if control_group else None
        with pinned(cores):
            process = subprocess.Popen(
                argv if control is None else [*AT_THE_GATE, *argv],
                stdin=subprocess.DEVNULL if control is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                env={**os.environ, **environment, MARK: mark},
                process_group=0,
            )
        if control is not None and not control.add(process.pid):
            control.remove()
            control = None
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin as gate:
                gate.write(b"\n")
        return ProcessGroup(process, mark, log, control)

    @property
    def frozen_by(self) -> str:
        """What ``freeze`` uses: "cgroup" or "sigstop"."""
        return "sigstop" if self._control is None else "cgroup"

    @property
    def pid(self) -> int:
        """The first process; also the number of its group."""
        return self.process.pid

    def members(self) -> list[ProcessStat]:
        """All processes of the group: by control group, process group, session, descent, or mark."""
        everyone = [read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit()]
        stats = [stat for stat in everyone if stat is not None]
        controlled = frozenset[int]() if self._control is None else self._control.pids()
        inside = {stat.pid for stat in stats if self.pid in (stat.pid, stat.group, stat.session)}
        inside |= {stat.pid for stat in stats if stat.pid in controlled}
        outside = [stat for stat in stats if stat.pid not in inside and stat.pid != os.getpid()]
        inside |= {stat.pid for stat in outside if self._is_marked(stat.pid)}
        grown = True
        while grown:
            found = {stat.pid for stat in outside if stat.parent in inside} - inside
            inside |= found
            grown = bool(found)
        return [stat for stat in stats if stat.pid in inside]

    def _is_marked(self, pid: int) -> bool:
        try:
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def cpu_ns(self) -> int:
        """CPU time of all members, their ended threads and reaped children included."""
        total = 0
        for stat in self.members():
            total += stat.children_cpu_ns
            try:
                total += process_cpu_ns(stat.pid)
            except ProcessLookupError:
                continue
        return total

    def rss_bytes(self) -> int:
        """Resident memory of all members (shared pages count once for each)."""
        pages = 0
        for stat in self.members():
            try:
                pages += int(Path(f"/proc/{stat.pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                continue
        return pages * os.sysconf("SC_PAGE_SIZE")

    def freeze(self, timeout_s: float = 5.0) -> None:
        """Stop every member. Raises TimeoutError when one keeps running."""
        deadline = now_ns() + int(timeout_s * 1e9)
        running = self._freeze_control(self._control, deadline) if self._control else self._stop(deadline)
        if running:
            raise TimeoutError(f"processes {running} do not stop")

    def _freeze_control(self, control: ControlGroup, deadline_ns: int) -> list[int]:
        """Freeze the control group, with members that were started before it or have left it; who still runs."""
        while True:
            stands = control.freeze(deadline_ns)
            inside = control.pids()
            outside = [stat.pid for stat in self.members() if stat.pid not in inside and stat.state not in "ZX"]
            if stands and not outside:
                return []
            if now_ns() > deadline_ns:
                return outside or sorted(inside)
            for pid in outside:
                control.add(pid)

    def _stop(self, deadline_ns: int) -> list[int]:
        """SIGSTOP to every member until all stand; who still runs."""
        while True:
            running = [stat.pid for stat in self.members() if set(thread_states(stat.pid)) - STOPPED_STATES]
            if not running or now_ns() > deadline_ns:
                return running
            for pid in running:
                _signal(pid, signal.SIGSTOP)
            sleep_s(0.001)

    def thaw(self) -> None:
        """Let every member run again."""
        if self._control is not None:
            self._control.thaw()
            return
        for stat in self.members():
            _signal(stat.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill and reap every member; returns when none is left. Safe to call twice.

        A process that is ending has no environment any more while it still runs, so who was seen once is waited for.
        """
        seen: dict[int, int] = {}
        while True:
            seen |= {stat.pid: stat.started for stat in self.members()}
            alive = [pid for pid, started in seen.items() if _runs(pid, started)]
            if not alive:
                break
            for pid in alive:
                _signal(pid, signal.SIGKILL)
            sleep_s(0.001)
        self.process.wait()
        if self._control is not None:
            self._control.remove()

    def log_tail(self) -> str:
        """The end of what the group wrote."""
        size = os.fstat(self._log.fileno()).st_size
        data = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        return data.decode(errors="replace").strip()

    def await_end(self, timeout_s: float) -> None:
        """Give a first process that has closed its files the moment that it needs to end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)

    def ending(self) -> str:
        """How the first process ended, in words; "" while it runs."""
        code = self.process.poll()
        if code is None:
            return ""
        return f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def _runs(pid: int, started: int) -> bool:
    """Whether the process begun at ``started`` has a thread that has not ended; its number may be another's now."""
    stat = read_stat(pid)
    return stat is not None and stat.started == started and bool(set(thread_states(pid)) - ENDED_STATES)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
