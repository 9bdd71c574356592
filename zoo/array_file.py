"""An ``.npz`` whose arrays start on page boundaries: numpy reads it as any other, and processes map it in place.

Processes that map one file share its pages: weights that several systems serve lie in memory once. Room before an array
is made by the zip format's own means, an extra field of zeros (the one that Android's zipalign writes).
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PAGE = 4096
LINE = 64
"""Bytes of a cache line. An array that starts elsewhere is read and not mapped: its rows would straddle lines."""
_LOCAL_HEADER, _ZIP64_EXTRA, _ALIGNMENT_FIELD = 30, 20, 0xD935


class ArrayFileWriter:
    """Writes arrays by name; a context, at whose end the file is whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> ArrayFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._zip.close()
        else:
            with contextlib.suppress(Exception):  # of a file that is given up
                self._zip.close()

    def add(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike, parts: Iterable[Array]) -> None:
        """An array in C order, given as consecutive parts, so that it need not lie in memory as a whole."""
        head = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        member = zipfile.ZipInfo(f"{name}.npy")
        before = self._file.tell() + _LOCAL_HEADER + len(member.filename.encode()) + _ZIP64_EXTRA + 4
        # The header of an array comes after the room, and the array itself is to start on a page.
        room = -(before + _header_bytes(head)) % PAGE
        member.extra = struct.pack("<HH", _ALIGNMENT_FIELD, room) + bytes(room)
        with self._zip.open(member, "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, head)
            for part in parts:
                stream.write(np.ascontiguousarray(part, dtype).data.cast("B") if part.size else b"")


def map_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` by name, read-only where they lie in the mapped file; those that do not start on a
    line, or are compressed, are read. Raises what ``numpy`` and ``zipfile`` raise for a file that is damaged."""
    found: dict[str, Array] = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for member in archive.infolist():
            mapped = _mapped(file, member, memory) if member.compress_type == zipfile.ZIP_STORED else None
            if mapped is None:
                with archive.open(member) as stream:
                    mapped = np.lib.format.read_array(stream, allow_pickle=False)
            found[member.filename.removesuffix(".npy")] = mapped
    return found


def _mapped(file: IO[bytes], member: zipfile.ZipInfo, memory: mmap.mmap) -> Array | None:
    file.seek(member.header_offset)
    *_, name_bytes, extra_bytes = struct.unpack("<4s5H3I2H", file.read(_LOCAL_HEADER))
    file.seek(name_bytes + extra_bytes, 1)
    if np.lib.format.read_magic(file) != (1, 0):
        return None
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    start, count = file.tell(), int(np.prod(shape))
    if start % LINE or fortran_order or dtype.hasobject or not count:
        return None
    return np.frombuffer(memory, dtype, count, start).reshape(shape)


def _header_bytes(head: dict[str, Any]) -> int:
    class Counter:
        size = 0

        def write(self, data: bytes) -> None:
            self.size += len(data)

    counter = Counter()
    np.lib.format.write_array_header_1_0(counter, head)  # type: ignore[arg-type]
    return counter.size
