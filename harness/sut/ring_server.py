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
    HEADER_BYTES,
    REQUEST,
    RingShape,
    map_shared,
)
from zoo.schema import Float32

READ_BYTES = 4096
NUMBER = struct.Struct("<q")


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
        self._answer_offset, self._stride = shape.answer_offset, shape.stride
        self._numbers = [NUMBER.pack(slot) for slot in range(shape.slots)]
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
        return [self._request(slot, stamp) for (slot,) in NUMBER.iter_unpack(data)]

    def cancelled_before(self) -> int:
        """Queries with a smaller sequence need no computing: answer them CANCELLED."""
        return int(CANCELLED_BEFORE.unpack_from(self.memory, 0)[0])

    def collected(self, more: Collections) -> None:
        """Tell the sender of garbage collections in this process."""
        count, total_ns, longest_ns = COLLECTED.unpack_from(self.memory, COLLECTED_OFFSET)
        both = Collections(count=count, total_ns=total_ns, longest_ns=longest_ns) + more
        COLLECTED.pack_into(self.memory, COLLECTED_OFFSET, both.count, both.total_ns, both.longest_ns)

    def areas(self, slot: int) -> tuple[memoryview, memoryview]:
        """Where the slot's payloads lie, and where its scores go."""
        payload = HEADER_BYTES + slot * self._stride + REQUEST.size
        scores = self._answer_at(slot) + ANSWER_BYTES
        return (
            self.memory[payload : payload + self.shape.request_bytes],
            self.memory[scores : scores + 4 * self.shape.max_samples],
        )

    def answer(self, request: Request, scores: Float32, status: int, started_ns: int, worker: int) -> None:
        """Write ``scores`` [N] and announce the slot."""
        base, count = self._answer_at(request.slot) + ANSWER_BYTES, len(scores)
        self.memory[base : base + 4 * count] = np.ascontiguousarray(scores, np.float32).view(np.uint8).data
        self.announce(request, count, status, started_ns, worker)

    def announce(self, request: Request, count: int, status: int, started_ns: int, worker: int) -> None:
        """The answer of ``count`` scores that lie in the slot's area already."""
        header = (request.sequence, count, status, request.dequeued_ns, started_ns, worker)
        ANSWER.pack_into(self.memory, self._answer_at(request.slot), *header)
        os.write(self.done, self._numbers[request.slot])

    def _answer_at(self, slot: int) -> int:
        return HEADER_BYTES + slot * self._stride + self._answer_offset

    def _request(self, slot: int, stamp: int) -> Request:
        base = HEADER_BYTES + slot * self._stride
        sequence, size = REQUEST.unpack_from(self.memory, base)
        base += REQUEST.size
        return Request(slot, sequence, self.memory[base : base + size], stamp)
