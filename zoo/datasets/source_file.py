"""A user's file: found, opened plain or gzip-compressed, and complained about by name and line."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 1 << 20


def require_path(option: str, given: str, how_to_get: str) -> Path:
    """The existing file or folder that ``option`` names. Raises ValueError saying how to get the data otherwise."""
    if not given:
        raise ValueError(f"{option} is not set: it must name the data. {how_to_get}")
    path = Path(given).expanduser()
    if not path.exists():
        raise ValueError(f"{option}={given} does not exist: check the path. {how_to_get}")
    return path


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of ``path``. Damage that shows while reading is raised as ValueError with its cause.

    A file is read as gzip if it starts with gzip's magic bytes, whatever its name; a name that ends in .gz demands it.
    """
    with path.open("rb") as head:
        magic = head.read(2)
    if not magic:
        raise ValueError(f"{path} is empty (0 bytes): download it again")
    if path.suffix == ".gz" and magic != GZIP_MAGIC:
        raise ValueError(f"{path} is named .gz but does not hold gzip data (it starts with {magic.hex()}, not 1f8b)")
    try:
        if magic == GZIP_MAGIC:
            with gzip.open(path, "rb") as unpacked, io.BufferedReader(unpacked, BUFFER_BYTES) as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except EOFError as error:
        raise ValueError(f"{path} is truncated: its gzip stream ends in the middle; download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is corrupt: its gzip data cannot be unpacked ({error}); download it again") from error


def bad_line(path: Path, number: int, expected: str, found: str) -> ValueError:
    """The error for line ``number`` (from 1) of ``path``."""
    return ValueError(f"{path}, line {number}: expected {expected}, got {found}")


def shown(text: bytes, limit: int = 60) -> str:
    """Bytes of a file as they appear in an error: decoded, quoted, cut."""
    cut = text[:limit].decode("utf-8", "backslashreplace")
    return repr(cut + ("..." if len(text) > limit else ""))
