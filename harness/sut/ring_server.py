"""The SUT's side of the slot ring: take requests, write answers."""

from __future__ import annotations

import os
import select
import struct
from dataclasses import dataclass

import numpy as np

from harness.clock import now_ns
from harness.host.garbage import Collections
from harness.transport.slots import (
    ANSWER,
    ANSWER_BYTES,
    CANCELLED_BEFORE,
    COLLECTED,
    COLLECTED_OFFSET,
    REQUEST,
    RingShape,
    map_shared,
)
from zoo.schema import Float32

READ_BYTES = 4096


@dataclass(slots=True)
class Request:
    """One query as it lies in its slot. ``payload`` is a view that stays valid until the answer."""

    slot: int
    sequence: int
    payload: memoryview
    dequeued_ns: int


class RingServer:
    """Reads slot numbers from ``requests`` and writes them to ``done``. One reader at a time; any thread may answer."""

    def __init__(self, shape: RingShape, ring: int, requests: int, done: int) -> None:
        self.shape = shape
        self.requests, self.done = requests, done
        self.memory = memoryview(map_shared(ring, shape.total_bytes))
        self.poller = select.poll()
        self.poller.register(requests, select.POLLIN)

    def take(self, wait_ns: int | None = None) -> list[Request] | None:
        """Requests that have arrived, oldest first; None at the end of input.

        ``wait_ns`` None: wait for one. Otherwise wait that long at most, and return [] when none came.
        """
        if wait_ns is not None and not self.poller.poll(wait_ns / 1e6):
            return []
        data = os.read(self.requests, READ_BYTES)
        if not data:
            return None
        stamp = now_ns()
        return [self._request(slot, stamp) for (slot,) in struct.iter_unpack("<q", data)]

    def cancelled_before(self) -> int:
        """Queries with a smaller sequence need no computing: answer them CANCELLED."""
        return int(CANCELLED_BEFORE.unpack_from(self.memory, 0)[0])

    def collected(self, more: Collections) -> None:
        """Tell the sender of garbage collections in this process."""
        count, total_ns, longest_ns = COLLECTED.unpack_from(self.memory, COLLECTED_OFFSET)
        both = Collections(count=count, total_ns=total_ns, longest_ns=longest_ns) + more
        COLLECTED.pack_into(self.memory, COLLECTED_OFFSET, both.count, both.total_ns, both.longest_ns)

    def answer(self, request: Request, scores: Float32, status: int, started_ns: int, worker: int) -> None:
        """Write ``scores`` [N] and announce the slot."""
        base = self.shape.slot_offset(request.slot) + self.shape.answer_offset
        count = len(scores)
        header = (request.sequence, count, status, request.dequeued_ns, started_ns, worker)
        ANSWER.pack_into(self.memory, base, *header)
        base += ANSWER_BYTES
        self.memory[base : base + 4 * count] = np.ascontiguousarray(scores, np.float32).view(np.uint8).data
        os.write(self.done, struct.pack("<q", request.slot))

    def _request(self, slot: int, stamp: int) -> Request:
        base = self.shape.slot_offset(slot)
        sequence, size = REQUEST.unpack_from(self.memory, base)
        base += REQUEST.size
        return Request(slot, sequence, self.memory[base : base + size], stamp)
