"""Control groups: made where the system allows it, removed whoever dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host.freezer import ControlGroup, own_group


def test_a_folder_that_is_no_control_group_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    assert ControlGroup.create("mark", tmp_path) is None
    assert ControlGroup.create("mark", tmp_path / "missing") is None
    assert list(tmp_path.iterdir()) == []


def test_empty_groups_of_dead_main_processes_are_removed_others_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    names = [f"recarena-{dead.pid}-a", f"recarena-{os.getpid()}-b", "recarena-x-c", "else"]
    for name in names:
        (tmp_path / name).mkdir()
    ControlGroup.create("mark", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_a_member_is_inside_until_it_has_ended() -> None:
    group = ControlGroup.create("member")
    if group is None:
        pytest.skip("no cgroup v2 that this user may write to")
    parent = own_group()
    assert parent is not None and group.folder.parent == parent
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert group.add(child.pid)
    assert group.pids() == {child.pid}
    child.communicate(b"\n")
    assert not group.add(child.pid)
    assert group.pids() == frozenset()
    group.remove()
    assert not group.folder.exists()
