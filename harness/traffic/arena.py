"""Payloads of coming segments, encoded before the segment, in memory that main and sender share (never the SUT)."""

from __future__ import annotations

import mmap
import os

import numpy as np

from harness.traffic.arrivals import Queries
from harness.transport.slots import create_shared, map_shared
from harness.transport.wire import encode
from zoo.schema import Int64, Split

GRAIN_BYTES = 16 << 20
KEEP_BYTES = 256 << 20
"""Above this size the arena is emptied before the next segment."""


class PayloadArena:
    """Grows as needed; a query that was placed before is not encoded again (both sides of a pair ask the same)."""

    def __init__(self) -> None:
        self.bytes = GRAIN_BYTES
        self.descriptor = create_shared(self.bytes, "recarena-arena")
        self._memory: mmap.mmap = map_shared(self.descriptor, self.bytes)
        self._used = 0
        self._known: dict[tuple[int, bytes], tuple[int, int]] = {}
        self._splits: dict[int, Split] = {}

    def place(self, split: Split, queries: Queries, largest_bytes: int) -> tuple[Int64, Int64]:
        """(starts [Q], lengths [Q]) of the payloads. Raises ValueError when one is larger than ``largest_bytes``."""
        if self._used > KEEP_BYTES:
            self._used = 0
            self._known.clear()
            self._splits.clear()
        self._splits[id(split)] = split
        starts, lengths = np.empty(len(queries), np.int64), np.empty(len(queries), np.int64)
        bounds = queries.offsets.tolist()
        for index in range(len(queries)):
            samples = queries.samples[bounds[index] : bounds[index + 1]]
            key = (id(split), samples.tobytes())
            if key not in self._known:
                self._known[key] = self._append(encode(split.batch(samples)))
            starts[index], lengths[index] = self._known[key]
        if int(lengths.max(initial=0)) > largest_bytes:
            raise ValueError(f"a payload has {int(lengths.max())} bytes, the slots of this side hold {largest_bytes}")
        return starts, lengths

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)

    def _append(self, payload: bytes) -> tuple[int, int]:
        start, size = self._used, len(payload)
        if start + size > self.bytes:
            self.bytes = max(self.bytes * 2, start + size)
            self._memory.close()
            os.ftruncate(self.descriptor, self.bytes)
            self._memory = map_shared(self.descriptor, self.bytes)
        self._memory[start : start + size] = payload
        self._used = -(-(start + size) // 8) * 8
        return start, size
