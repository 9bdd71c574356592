"""The limit of a container on processor time, wherever its control groups are mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host import environment
from harness.host.quota import cpu_quota
from harness.host.scheduling import available_cores


def _system(folder: Path, version: int, group: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Mounts and groups of a process in ``group`` of a hierarchy with these files."""
    root = folder / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    kind, options, own = ("cgroup2", "rw", "0::") if version == 2 else ("cgroup", "rw,cpu,cpuacct", "3:cpu,cpuacct:")
    mounts, groups = folder / "mounts", folder / "groups"
    mounts.write_text(f"proc /proc proc rw 0 0\n{kind} {root} {kind} {options} 0 0\n")
    groups.write_text(f"7:memory:/other\n{own}{group}\n")
    return mounts, groups


@pytest.mark.parametrize(
    ("version", "group", "files", "quota"),
    [
        (2, "/", {"cpu.max": "150000 100000"}, 1.5),
        (2, "/", {"cpu.max": "max 100000"}, None),
        (2, "/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        (2, "/a/b", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "400000 100000"}, 2.0),
        (2, "/", {}, None),
        (1, "/", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        (1, "/", {"cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "50000"}, 0.5),
        # Of a container: the path is the host's, the mount begins at its own group.
        (1, "/docker/12ab", {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}, 3.0),
    ],
)
def test_the_tightest_limit_counts(
    tmp_path: Path, version: int, group: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(*_system(tmp_path, version, group, files)) == quota


def test_where_nothing_tells_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


def test_a_share_of_the_cores_is_another_kind_of_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(available_cores())
    monkeypatch.setattr(environment, "cpu_quota", lambda: None)
    whole = environment.hardware_class()
    monkeypatch.setattr(environment, "cpu_quota", lambda: float(cores))
    assert environment.hardware_class() == whole
    monkeypatch.setattr(environment, "cpu_quota", lambda: 0.75)
    assert environment.hardware_class() == whole.replace(f"-{cores}c-", f"-{cores}c-q75-")
