"""Control groups that limit the memory of the processes that join them: cgroup v2 where it hands memory on, else v1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host.freezer import own_group

MEGABYTE = 2**20


@contextlib.contextmanager
def memory_group(name: str, megabytes: int) -> Iterator[Path]:
    """The file that takes process ids into a group of so much memory. Skips the test where none can be made."""
    parent, limit = _parent()
    folder = parent / f"recarena-test-{os.getpid()}-{name}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(megabytes * MEGABYTE))
    except OSError as error:
        if folder.exists():
            folder.rmdir()
        pytest.skip(f"this user may not limit memory by control group: {error}")
    if (folder / "memory.swap.max").exists():
        (folder / "memory.swap.max").write_text("0")
    try:
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


def _parent() -> tuple[Path, str]:
    group = own_group()
    if group is not None and "memory" in (group / "cgroup.subtree_control").read_text().split():
        return group, "memory.max"
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [fields[1] for fields in mounts if fields[2] == "cgroup" and "memory" in fields[3].split(",")]
    inside = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = [path for _, controllers, path in inside if "memory" in controllers.split(",")]
    if not roots or not own:
        pytest.skip("no control group that limits memory can be made here: no v1 hierarchy, and none of v2 hands it on")
    return Path(roots[0]) / own[0].lstrip("/"), "memory.limit_in_bytes"
