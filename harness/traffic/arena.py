"""Payloads of coming segments, encoded before the segment, in memory that main and sender share (never the SUT)."""

from __future__ import annotations

import mmap
import os
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.traffic.arrivals import Queries
from harness.transport.payloads import encode_queries
from harness.transport.slots import create_shared, map_shared
from zoo.schema import Int64, Split

GRAIN_BYTES = 16 << 20
KEEP_BYTES = 256 << 20
"""Above this size the arena is emptied before the next segment."""
AT_ONCE = 2048
"""Queries that are encoded together: enough to hide the cost of a call, few enough to stay in the cache."""
Key = tuple[int, bytes]


class PayloadArena:
    """Grows as needed; a query that was placed before is not encoded again (both sides of a pair ask the same)."""

    def __init__(self) -> None:
        self.bytes = GRAIN_BYTES
        self.descriptor = create_shared(self.bytes, "recarena-arena")
        self._memory: mmap.mmap = map_shared(self.descriptor, self.bytes)
        self._used = 0
        self._known: dict[Key, tuple[int, int]] = {}
        self._splits: dict[int, Split] = {}

    def place(self, split: Split, queries: Queries, largest_bytes: int) -> tuple[Int64, Int64]:
        """(starts [Q], lengths [Q]) of the payloads. Raises ValueError when one is larger than ``largest_bytes``."""
        if self._used > KEEP_BYTES:
            self._used = 0
            self._known.clear()
            self._splits.clear()
        self._splits[id(split)] = split
        keys = [(id(split), queries.samples[low:high].tobytes()) for low, high in pairwise(queries.offsets.tolist())]
        self._encode(split, queries, {key: at for at, key in enumerate(keys) if key not in self._known})
        starts, lengths = np.array([self._known[key] for key in keys], np.int64).reshape(-1, 2).T
        if int(lengths.max(initial=0)) > largest_bytes:
            raise ValueError(f"a payload has {int(lengths.max())} bytes, the slots of this side hold {largest_bytes}")
        return starts, lengths

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)

    def _encode(self, split: Split, queries: Queries, places: dict[Key, int]) -> None:
        fresh = list(places.items())
        for first in range(0, len(fresh), AT_ONCE):
            part = fresh[first : first + AT_ONCE]
            asked = queries.drawn(np.array([at for _, at in part], np.int64))
            payloads, bounds = encode_queries(split, asked.samples, asked.offsets)
            spans = pairwise((self._append(payloads) + bounds).tolist())
            self._known.update((key, (low, high - low)) for (key, _), (low, high) in zip(part, spans, strict=True))

    def _append(self, payloads: npt.NDArray[np.uint8]) -> int:
        """Where they begin."""
        start, size = self._used, payloads.size
        if start + size > self.bytes:
            self.bytes = max(self.bytes * 2, start + size)
            self._memory.close()
            os.ftruncate(self.descriptor, self.bytes)
            self._memory = map_shared(self.descriptor, self.bytes)
        self._memory[start : start + size] = payloads.data
        self._used = start + size
        return start
