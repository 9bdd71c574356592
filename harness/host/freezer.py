"""Control groups that freeze (R9): cgroup v2. What a member starts is a member, and no signal wakes it.

The freezer of cgroup v1 is not used: a process that it has frozen cannot be killed, and would outlive a main process
that is killed. Where no v2 group can be made, ``harness.host.processes`` stops processes by SIGSTOP.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from harness.clock import now_ns, sleep_s

PREFIX = "recarena-"
REMOVAL_TRIES = 200


class ControlGroup:
    """One cgroup v2 of our own; everything that a member starts is a member (cgroups(7))."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def create(mark: str, parent: Path | None = None) -> ControlGroup | None:
        """A new group below ``parent`` (None: this process's own), or None where the system does not let us.

        Empty groups of main processes that have ended are removed on the way.
        """
        parent = parent or own_group()
        if parent is None:
            return None
        _remove_abandoned(parent)
        folder = parent / f"{PREFIX}{os.getpid()}-{mark}"
        try:
            folder.mkdir()
        except OSError:
            return None
        group = ControlGroup(folder)
        if not (folder / "cgroup.freeze").exists():
            group.remove()
            return None
        return group

    def add(self, pid: int) -> bool:
        """Move process ``pid`` in, with all of its threads; False where it has ended or may not be moved."""
        try:
            (self.folder / "cgroup.procs").write_text(f"{pid}\n")
        except OSError:
            return False
        return True

    def pids(self) -> frozenset[int]:
        """Processes inside, those that have ended and were not yet waited for excepted."""
        try:
            return frozenset(int(word) for word in (self.folder / "cgroup.procs").read_text().split())
        except OSError:
            return frozenset()

    def freeze(self, deadline_ns: int) -> bool:
        """Stop every member; True once the kernel says that all of them stand."""
        (self.folder / "cgroup.freeze").write_text("1\n")
        while "frozen 1" not in (self.folder / "cgroup.events").read_text():
            if now_ns() > deadline_ns:
                return False
            sleep_s(0.0005)
        return True

    def thaw(self) -> None:
        """Let every member run again."""
        (self.folder / "cgroup.freeze").write_text("0\n")

    def remove(self) -> None:
        """Remove the group. Its members have been killed; the kernel may need a moment to forget them."""
        for _ in range(REMOVAL_TRIES):
            with suppress(OSError):
                self.folder.rmdir()
            if not self.folder.exists():
                return
            sleep_s(0.005)


def own_group() -> Path | None:
    """Folder of the cgroup v2 that this process is in; None where no v2 hierarchy is mounted."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    roots = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    inside = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    if not roots or not inside:
        return None
    return Path(roots[0]) / inside[0].lstrip("/")


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with suppress(OSError):
                folder.rmdir()
