"""The processes of a training trial: started, ordered about, frozen, and killed in the end. Imports no framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.host.liberties import liberties
from harness.host.processes import read_stat
from harness.host.scheduling import available_cores
from harness.host.signals import terminate_interrupts
from harness.sut.system_process import SideInfo, SystemProcess

COMMAND = (sys.executable, "-m", "harness.sut.training_server")
START_S = 600.0
STALL_S = 600.0
"""A side that does not answer an order for this long hangs."""
FORGET_PEAK = "5"
"""What resets a process's peak resident memory (proc(5), clear_refs)."""


class TrainingSides:
    """Context manager over all child processes of a training trial. On leaving, for whatever reason, every one is
    killed. All of them may use all cores: there is no sender, and the referee sleeps while a side works.

    control_groups: freeze by control group where the system has them; False: by SIGSTOP, as on all other systems.
    frozen_by: "cgroup" or "sigstop", by side.
    """

    def __init__(self, *, control_groups: bool = True, command: Sequence[str] = COMMAND) -> None:
        self.cores, self.frozen_by = available_cores(), dict[str, str]()
        self._control_groups, self._command = control_groups, command
        self._sides: dict[str, SystemProcess] = {}
        self._terminate = ExitStack()

    def __enter__(self) -> Self:
        self._terminate.enter_context(terminate_interrupts())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for side in self._sides.values():
            side.close()
        self._sides.clear()
        self._terminate.close()

    def start(self, name: str, spec: Mapping[str, Any]) -> SideInfo:
        """Start a side and wait until it is ready. ``spec`` as in ``harness.sut.training_server``; its "environment" is
        set first. Raises SutFailure with the child's traceback when it ends, or is not ready in time."""
        environment = spec["environment"]
        side = SystemProcess(name, self._command, self.cores, environment, control_group=self._control_groups)
        self._sides[name] = side
        self.frozen_by[name] = side.group.frozen_by
        return side.order_and_await({"spec": dict(spec)}, START_S)

    def stop(self, name: str) -> None:
        """End a side and everything that it started."""
        self._sides.pop(name).close()

    def order(self, name: str, command: str, **values: Any) -> int:
        """Give one order and wait until it is done; returns its samples. Raises SutFailure when the side ends, hangs,
        or reports an error."""
        side = self._sides[name]
        if side.frozen:
            raise ValueError(f"side {name!r} is frozen")
        reply = side.ask(
            {"command": command, **values},
            STALL_S,
            f"hangs: it was told to {command} {STALL_S:.0f} s ago",
            f"ended when it was told to {command}",
        )
        if "samples" not in reply:
            raise side.failure(f"failed when it was told to {command}", str(reply.get("error", "")))
        return int(reply["samples"])

    def freeze(self, name: str) -> None:
        """Stop every process of a side; returns when all have stopped."""
        self._sides[name].group.freeze()
        self._sides[name].frozen = True

    def thaw(self, name: str) -> None:
        """Let a side run again."""
        self._sides[name].group.thaw()
        self._sides[name].frozen = False

    def cpu_ns(self, name: str) -> int:
        """CPU time that all processes of a side have used so far. It does not move while the side is frozen."""
        return self._sides[name].group.cpu_ns()

    def liberties(self, name: str) -> tuple[str, ...]:
        """Cores and priority that a side gave itself."""
        return liberties(self.pids(name), self.cores)

    def pids(self, name: str) -> tuple[int, ...]:
        """Processes of a side."""
        return tuple(stat.pid for stat in self._sides[name].group.members())

    def rss_bytes(self, name: str) -> int:
        """Resident memory of a side."""
        return self._sides[name].group.rss_bytes()

    def faults(self, name: str) -> tuple[int, int]:
        """Minor and major page faults of a side so far."""
        stats = [stat for stat in map(read_stat, self.pids(name)) if stat is not None]
        return sum(stat.minor_faults for stat in stats), sum(stat.major_faults for stat in stats)

    def forget_peak(self, name: str) -> None:
        """Let ``peak_bytes`` begin anew, where the system allows it."""
        for pid in self.pids(name):
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text(FORGET_PEAK)

    def peak_bytes(self, name: str) -> int | None:
        """Largest resident memory so far, over all processes of a side; None where the system does not tell."""
        peaks = [_peak_bytes(pid) for pid in self.pids(name)]
        known = [peak for peak in peaks if peak is not None]
        return sum(known) if known else None


def _peak_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None
