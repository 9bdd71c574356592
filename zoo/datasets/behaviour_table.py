"""Parsed behaviours on disk and in memory: user, item, category and time of each, as whole numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from zoo.datasets.behaviours import BehaviourLog
from zoo.datasets.portable_random import Int64

EVENTS_FILE = "events.parquet"
CATEGORIES_FILE = "categories.parquet"


def write_behaviours(folder: Path, user: Int64, item: Int64, time: Int64, category_of: Int64) -> None:
    """Write events [E], sorted by user and, within a user, by time (ties keep their order).

    item in [0, I), category_of [I] in [0, K): both are renumbered from 1, because row 0 of a table is padding.
    """
    order = np.lexsort((np.arange(len(user)), time, user))
    events = pa.table({"user": user[order], "item": item[order] + 1, "time": time[order]})
    pyarrow.parquet.write_table(events, folder / EVENTS_FILE)
    pyarrow.parquet.write_table(pa.table({"category": category_of + 1}), folder / CATEGORIES_FILE)


def read_behaviours(folder: Path) -> BehaviourLog:
    """The log as ``write_behaviours`` left it."""
    events = pyarrow.parquet.read_table(folder / EVENTS_FILE, columns=["user", "item"])
    user = events.column("user").to_numpy()
    starts = np.flatnonzero(np.append(True, user[1:] != user[:-1]))
    offsets = np.append(starts, len(user)).astype(np.int64)
    category = pyarrow.parquet.read_table(folder / CATEGORIES_FILE).column("category").to_numpy()
    category_of = np.append(0, category).astype(np.int64)
    return BehaviourLog(events.column("item").to_numpy(), offsets, category_of)


def number_by_first_use(column: pa.ChunkedArray) -> tuple[Int64, pa.Array]:
    """(numbers [E] from 0 in the order of first use, the distinct values)."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary
