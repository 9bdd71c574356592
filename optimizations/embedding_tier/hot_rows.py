"""Which rows of which tables lie in memory, and the memory that they lie in."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizations.fusion.torch_embedding import HotTable
from zoo.blueprint import HotOrder
from zoo.frequencies import Frequencies
from zoo.schema import Int64

Float32 = npt.NDArray[np.float32]
MEGABYTE = 2**20
MARKED = 32
"""Rows of one entry of an index of marks."""
LINE = 64
"""Bytes of a cache line."""


def chosen_rows(frequencies: Frequencies, row_bytes: Mapping[str, int], hot_bytes: int) -> dict[str, Int64]:
    """Rows of each table of ``row_bytes`` that ``hot_bytes`` hold, the most frequent ones of a table first.

    The most lookups for the bytes: rows by falling count per byte over all tables, ties in the order of the tables.
    """
    tables = [table for table in row_bytes if table in frequencies]
    sizes = [len(frequencies[table].rows) for table in tables]
    cost = np.repeat([row_bytes[table] for table in tables], sizes)
    counts = np.concatenate([np.zeros(0, np.int64), *(frequencies[table].counts for table in tables)])
    order = np.argsort(-(counts / cost), kind="stable")
    taken = np.zeros(len(order), bool)
    taken[order[: np.searchsorted(np.cumsum(cost[order]), hot_bytes, side="right")]] = True
    return {
        table: frequencies[table].rows[mine]
        for table, mine in zip(tables, np.split(taken, np.cumsum(sizes)[:-1]), strict=True)
    }


def gathered(
    tables: Mapping[str, Float32], chosen: Mapping[str, Int64], order: HotOrder, huge_pages: bool = True
) -> dict[str, HotTable]:
    """The chosen rows table after table in one piece of memory, their indices in another.

    order: "row", or "frequency" for that of ``chosen``. On huge pages, if they are wanted and the system gives them.
    """
    if order == "row":
        chosen = {table: np.sort(rows) for table, rows in chosen.items()}
    shapes = [(len(rows), tables[table].shape[1]) for table, rows in chosen.items()]
    memory = _pieces(shapes, np.float32, huge_pages)
    indices = [_index(len(tables[table]), rows, order) for table, rows in chosen.items()]
    of_index = np.int32 if order == "frequency" else np.uint32
    index_memory = _pieces([index.shape for index in indices], of_index, huge_pages)
    for (table, rows), hot, index, place in zip(chosen.items(), memory, indices, index_memory, strict=True):
        np.take(tables[table], rows, axis=0, out=hot)
        place[...] = index
    return {table: HotTable(*both) for table, *both in zip(chosen, memory, index_memory, strict=True)}


def is_hot(table: HotTable, rows: Int64) -> npt.NDArray[np.bool_]:
    """Which of ``rows`` are hot."""
    if table.index.ndim == 1:
        return table.index[rows] >= 0
    return (table.index[rows // MARKED, 0] >> (rows % MARKED).astype(np.uint32)) & 1 == 1


def read_at_random(array: npt.NDArray[Any]) -> None:
    """Tell the kernel that the mapped ``array`` is read row by row: a miss reads its page, and none ahead."""
    first = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    length = array.ctypes.data + array.nbytes - first
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_RANDOM)


def _index(table_rows: int, rows: Int64, order: HotOrder) -> npt.NDArray[Any]:
    """See ``HotTable.index``."""
    if order == "frequency":
        places = np.full(table_rows, -1, np.int32)
        places[rows] = np.arange(len(rows), dtype=np.int32)
        return places
    hot = np.zeros(-(-table_rows // MARKED) * MARKED, bool)
    hot[rows] = True
    bits = np.packbits(hot, bitorder="little").view("<u4")
    counts = np.bitwise_count(bits) if hasattr(np, "bitwise_count") else hot.reshape(-1, MARKED).sum(1)
    return np.column_stack((bits, np.cumsum(counts) - counts)).astype(np.uint32)


def _pieces(shapes: list[tuple[int, ...]], dtype: npt.DTypeLike, huge_pages: bool) -> list[npt.NDArray[Any]]:
    """Arrays of zeros one after the other, in one piece of memory, each from the start of a cache line on."""
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape in shapes]
    starts = np.cumsum([0, *(-(-size // LINE) * LINE for size in sizes)]).tolist()
    memory = mmap.mmap(-1, max(1, starts[-1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge_pages:
        with suppress(AttributeError, OSError):  # a system or a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return [
        np.frombuffer(memory, dtype, int(np.prod(shape)), start).reshape(shape)
        for shape, start in zip(shapes, starts, strict=False)
    ]
