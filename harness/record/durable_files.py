"""Files that lie on the disk, and not in its cache, when writing them has returned. Standard library only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def json_bytes(value: Any) -> bytes:
    """Plain values as JSON that a person can read and compare. ValueError for NaN and infinities."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and flush it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader sees the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    write_bytes(temporary, json_bytes(value))
    os.replace(temporary, path)


def sync_file(path: Path) -> None:
    """Flush a file that another library has written."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names of a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
