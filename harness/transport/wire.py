"""Binary form of a query's payload: a header of counts, then the raw columns, every section 8-byte aligned.

Little-endian. ``HEADER`` counts users U, samples N, for either side its dense columns, id columns, bags per row and
bag values, then behaviours T and their columns H. Sections, in this order: user dense f4 [U, D], ids i8 [U, F],
bag offsets i8 [U B + 1], bag values i8; the same four of the item side; history i8 [T, H], history offsets i8 [U + 1],
user_of i8 [N].
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.schema import Batch, Int64, Rows, Split

MAGIC = 0x3151_4552_4352_4152
"""ASCII "RARCREQ1" read as a little-endian integer."""
HEADER = struct.Struct("<14q")
"""magic, total bytes, U, N, user (dense, ids, bags, bag values), item (the same four), T, H."""
SAMPLES = struct.Struct("<q")
SAMPLES_OFFSET = 24
"""Where N lies, for readers that need nothing else."""
MAX_COUNT = 1 << 40


def encode(batch: Batch) -> bytes:
    """The payload of ``batch``."""
    users, samples = len(batch.history_offsets) - 1, len(batch)
    sections: list[npt.NDArray[Any]] = [*_columns(batch.user), *_columns(batch.item)]
    sections += [batch.history, batch.history_offsets, batch.user_of]
    body = b"".join(_padded(section) for section in sections)
    counts = (users, samples, *_counts(batch.user), *_counts(batch.item), *batch.history.shape)
    return HEADER.pack(MAGIC, HEADER.size + len(body), *counts) + body


def decode(buffer: Any, *, trusted: bool = False) -> Batch:
    """Views of the columns inside ``buffer`` (bytes or memoryview; bytes past the payload are allowed): no copy.

    ``trusted`` skips the checks of offsets and indices (not those of the sizes).
    Raises ValueError when the bytes are not one well-formed payload.
    """
    reader = _Reader(buffer)
    users, samples, *counts = reader.counts
    user = reader.rows(users, *counts[0:4])
    item = reader.rows(samples, *counts[4:8])
    history = reader.int64(counts[8] * counts[9]).reshape(counts[8], counts[9])
    history_offsets = reader.int64(users + 1)
    user_of = reader.int64(samples)
    if reader.position != reader.total:
        raise ValueError(f"malformed payload: {reader.total} bytes announced, {reader.position} described")
    batch = Batch(user, item, history, history_offsets, user_of)
    if not trusted:
        _check(batch)
    return batch


def payload_bound(splits: Iterable[Split], samples: int) -> int:
    """Upper bound, in bytes, of the payload of any ``samples`` samples of ``splits`` (one user each at worst)."""
    bound = 0
    for split in splits:
        per_item = _row_bound(split.item) + 8
        per_user = _row_bound(split.user) + 8
        longest = int(np.diff(split.history_offsets).max(initial=0))
        per_user += longest * split.history.shape[1] * 8
        bound = max(bound, HEADER.size + samples * (per_item + per_user) + 11 * 16)
    return bound


def _row_bound(rows: Rows) -> int:
    bags = rows.bags_per_row
    values = int(np.diff(rows.bag_offsets[:: max(bags, 1)]).max(initial=0)) if bags else 0
    return 4 * int(rows.dense.shape[1]) + 8 * (int(rows.ids.shape[1]) + bags + values)


def _counts(rows: Rows) -> tuple[int, int, int, int]:
    return rows.dense.shape[1], rows.ids.shape[1], rows.bags_per_row, len(rows.bag_values)


def _columns(rows: Rows) -> tuple[npt.NDArray[Any], ...]:
    return rows.dense, rows.ids, rows.bag_offsets, rows.bag_values


def _padded(section: npt.NDArray[Any]) -> bytes:
    data = section.astype(section.dtype.newbyteorder("<"), copy=False).tobytes()
    return data + bytes(-len(data) % 8)


class _Reader:
    """Walks over the sections of one payload."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        size = len(buffer)
        if size < HEADER.size:
            raise ValueError(f"malformed payload: {size} bytes, the header alone has {HEADER.size}")
        magic, self.total, *self.counts = HEADER.unpack_from(buffer)
        if magic != MAGIC:
            raise ValueError("malformed payload: wrong magic number")
        if not HEADER.size <= self.total <= size:
            raise ValueError(f"malformed payload: {self.total} bytes announced, {size} present")
        if min(self.counts) < 0 or max(self.counts) > MAX_COUNT:
            raise ValueError("malformed payload: a count is out of range")
        self.position = HEADER.size

    def int64(self, count: int) -> Int64:
        return self._take(np.int64, count, 8 * count)

    def rows(self, count: int, dense: int, ids: int, bags: int, values: int) -> Rows:
        size = 4 * count * dense
        return Rows(
            self._take(np.float32, count * dense, size + (-size % 8)).reshape(count, dense),
            self.int64(count * ids).reshape(count, ids),
            bag_offsets=self.int64(count * bags + 1),
            bag_values=self.int64(values),
        )

    def _take(self, dtype: type[Any], count: int, size: int) -> npt.NDArray[Any]:
        start, self.position = self.position, self.position + size
        if self.position > self.total:
            raise ValueError("malformed payload: a column reaches past the end")
        return np.frombuffer(self.buffer, dtype, count, start)


def _check(batch: Batch) -> None:
    users = len(batch.history_offsets) - 1
    _check_offsets(batch.history_offsets, len(batch.history))
    for rows in (batch.user, batch.item):
        _check_offsets(rows.bag_offsets, len(rows.bag_values))
    if len(batch) and not 0 <= int(batch.user_of.min()) <= int(batch.user_of.max()) < users:
        raise ValueError("malformed payload: user_of names a user that is not there")


def _check_offsets(offsets: Int64, total: int) -> None:
    if offsets[0] != 0 or offsets[-1] != total or bool((offsets[1:] < offsets[:-1]).any()):
        raise ValueError("malformed payload: offsets do not ascend from 0 to the number of values")
