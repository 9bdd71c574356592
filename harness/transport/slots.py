"""The slot ring that the sender and one SUT share: requests and answers in anonymous shared memory.

Pipes carry slot numbers (8 bytes, little-endian) and are both queue and wake-up. Layout of the memory:

    ring header (4096 bytes)      uint64 cancelled_before: queries with a smaller sequence need no answer any more
                                  at 64: the SUT's garbage collections since the sender set these to 0
    slot 0 .. slots - 1           request: uint64 sequence, uint64 payload bytes, payload
                                  answer: see ``ANSWER``, then float32 scores [max_samples]
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass

REQUEST = struct.Struct("<QQ")
ANSWER = struct.Struct("<Qiiqqi")
"""sequence, scores given, status (0 = good), dequeued_ns, started_ns, worker."""
ANSWER_BYTES = 64
CANCELLED_BEFORE = struct.Struct("<Q")
COLLECTED = struct.Struct("<QQQ")
"""garbage collections, their time in ns, the longest of them in ns."""
COLLECTED_OFFSET = 64
HEADER_BYTES = 4096
ALIGNMENT = 64
GOOD, ERROR, CANCELLED = 0, 1, 2
"""Answer statuses."""


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class RingShape:
    """``slots`` queries in flight at most, payloads of up to ``request_bytes``, answers of up to ``max_samples``."""

    slots: int
    request_bytes: int
    max_samples: int

    @property
    def answer_offset(self) -> int:
        """Where the answer area begins within a slot."""
        return _aligned(REQUEST.size + self.request_bytes)

    @property
    def stride(self) -> int:
        """Bytes of one slot."""
        return self.answer_offset + _aligned(ANSWER_BYTES + 4 * self.max_samples)

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole ring. Pages that are never used cost nothing."""
        return HEADER_BYTES + self.slots * self.stride

    def slot_offset(self, slot: int) -> int:
        """Where slot ``slot`` begins."""
        return HEADER_BYTES + slot * self.stride


def create_shared(size: int, name: str) -> int:
    """A descriptor of ``size`` bytes of shared memory without a path: nothing is left behind by a crash."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile(prefix=name) as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def map_shared(descriptor: int, size: int) -> mmap.mmap:
    """Map ``size`` bytes of ``descriptor``, shared."""
    return mmap.mmap(descriptor, size, mmap.MAP_SHARED)
