"""The cache of parsed files: one folder per key, there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20


def cached_folder(cache_dir: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder ``cache_dir/key``; if it is missing, ``build`` fills a temporary folder that is then renamed to it.

    When ``build`` raises or is interrupted nothing of it stays. One process builds at a time; the others wait and find
    the result. What a killed process left is swept by the next builder.
    """
    folder = cache_dir / key
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with locked(cache_dir):
        if folder.is_dir():
            return folder
        partial = cache_dir / f".{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            build(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def content_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """SHA-256 (hex) of a file's bytes, remembered under ``cache_dir`` by path, size and time of change."""
    if cache_dir is None:
        return _file_sha256(path)
    stat = path.stat()
    name = digest({"path": str(path.resolve()), "size": stat.st_size, "changed_ns": stat.st_mtime_ns})
    note = cache_dir / "content" / name
    if note.is_file():
        return note.read_text()
    found = _file_sha256(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_suffix(f".{os.getpid()}")
    partial.write_text(found)
    partial.rename(note)
    return found


def digest(shaped_by: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a mapping in canonical JSON."""
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            found.update(block)
    return found.hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's own advisory lock: it needs no lock file and ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
