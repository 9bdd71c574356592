"""The disk is full while a record is written: an error that says so, and no half record. A real, small disk."""

from __future__ import annotations

import errno
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.edge.failures import exit_code, explain
from harness.errors import ConfigurationError, ExitCode
from harness.record.reader import RecordError, find_records, record_problems
from harness.record.writer import RecordWriter
from zoo.checkpoint import save_weights
from zoo.datasets import load_dataset
from zoo.widened_weights import widen

PAGE = os.sysconf("SC_PAGE_SIZE")
FILES = (
    "trial.json",
    "result.json",
    "environment.json",
    "queries.parquet",
    "predictions.parquet",
    "late_fraction.png",
    "latency_cdf.png",
    "latency_over_time.png",
    "manifest.json",
)
"""A record, in the order in which its files are written."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={8 << 20}", "recarena-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"this user may not mount a file system: {done.stderr.strip()}")
    yield folder
    # Lazily: an error that a test still holds may hold a half-written file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _pages(path: Path) -> int:
    return math.ceil(path.stat().st_size / PAGE)


def _leave(disk: Path, pages: int) -> Path:
    """Fill the disk up to ``pages`` pages."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        file.write(bytes((state.f_bavail * state.f_frsize) - pages * PAGE))
    return filler


def _write(folder: Path, built: tuple[Any, Any]) -> Path:
    with RecordWriter(folder, built[0]) as writer:
        return writer.write(built[1])


def test_the_files_of_a_record_are_written_in_the_order_that_is_tested(
    disk: Path, fabricate: Callable[..., Any]
) -> None:
    record = _write(disk / "records", fabricate())
    assert sorted(FILES, key=lambda name: (record / name).stat().st_mtime_ns) == list(FILES)
    assert {path.name for path in record.iterdir()} == set(FILES)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, fabricate: Callable[..., Any]) -> Path:
    """A record of the day before, on a disk with room."""
    return _write(tmp_path_factory.mktemp("kept"), fabricate(created="2026-03-01T12:00:00Z"))


@pytest.mark.parametrize("last", FILES)
def test_no_half_record_in_whichever_file_the_disk_ends(
    last: str, disk: Path, kept: Path, fabricate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = disk / "records"
    earlier = Path(shutil.copytree(kept, records / kept.name))
    room = sum(_pages(earlier / name) for name in FILES[: FILES.index(last) + 1]) - 1
    filler = _leave(disk, room)
    built = fabricate(created="2026-03-02T12:00:00Z")
    expected = ConfigurationError if last == "trial.json" else RecordError
    with pytest.raises(expected, match=os.strerror(errno.ENOSPC)) as caught:
        _write(records, built)
    assert exit_code(caught.value) == (
        ExitCode.BAD_CONFIGURATION if expected is ConfigurationError else ExitCode.FAILED
    )
    assert explain(caught.value) == f"error: {caught.value}"
    assert list(records.iterdir()) == [earlier]
    assert record_problems(earlier) == []
    filler.unlink()
    monkeypatch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])  # they take the time
    again = _write(records, built)
    assert find_records(records) == [earlier, again]
    assert record_problems(again) == []


@pytest.mark.parametrize("seen", [True, False])
def test_no_half_table_where_the_disk_ends(seen: bool, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is seen before the first byte is written, or another process takes the room meanwhile."""
    small = {"shape": "pointwise", "size": "tiny"}
    schema = load_dataset("planted", {**small, "table_copies": 500}, disk).schema
    weights = {"embedding.tables.C2.weight": np.ones((1_000, 16), np.float32)}
    save_weights(disk / "trained.npz", weights)
    if not seen:
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**12))
    with pytest.raises(OSError, match=r"The large tables need 0.03 GB in .*cannot be written.*make room there"):
        widen(disk / "trained.npz", schema, disk / "large.npz")
    assert [path.name for path in disk.iterdir()] == ["trained.npz"]
