"""The sender's side of one slot ring: deliver payloads, take answers, and keep the per-query log."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from harness.clock import now_ns
from harness.host.garbage import Collections
from harness.traffic.segment import Status
from harness.transport.flight import Flight
from harness.transport.slots import (
    ANSWER,
    ANSWER_BYTES,
    CANCELLED_BEFORE,
    COLLECTED,
    COLLECTED_OFFSET,
    GOOD,
    REQUEST,
    RingShape,
    map_shared,
)

FREE, ABANDONED = -1, -2
PENDING = -1
READ_BYTES = 1 << 16


class QueryLog:
    """Columns of one segment as plain lists: scalar access to them is several times cheaper than to arrays."""

    def __init__(self, sizes: list[int]) -> None:
        count = len(sizes)
        self.sizes = sizes
        self.score_bytes = [0] * (count + 1)
        for index, size in enumerate(sizes):
            self.score_bytes[index + 1] = self.score_bytes[index] + 4 * size
        self.scores = bytearray(self.score_bytes[-1])
        self.planned = [-1] * count
        self.sent = [-1] * count
        self.done = [-1] * count
        self.status = [PENDING] * count
        self.dequeued = [-1] * count
        self.started = [-1] * count
        self.worker = [-1] * count

    def close(self, pending: Status) -> None:
        """Give every query without a fate the fate ``pending`` (never sent: NOT_SENT)."""
        for index, status in enumerate(self.status):
            if status == PENDING:
                self.status[index] = pending if self.sent[index] >= 0 else Status.NOT_SENT

    def arrays(self) -> dict[str, Any]:
        """The columns as arrays; scores that are not finite turn their query into NOT_FINITE."""
        names = ("planned", "sent", "done", "status", "dequeued", "started", "worker")
        columns = {name: np.array(getattr(self, name), np.int64) for name in names}
        scores = np.frombuffer(self.scores, np.float32).copy()
        offsets = np.array(self.score_bytes, np.int64) // 4
        status = columns["status"]
        owner = np.repeat(np.arange(len(self.sizes)), np.diff(offsets))
        broken = np.zeros(len(self.sizes), bool)
        broken[owner[~np.isfinite(scores)]] = True
        status[broken & (status == Status.ANSWERED)] = Status.NOT_FINITE
        scores[(status != Status.ANSWERED)[owner]] = np.nan
        return {**columns, "scores": scores, "score_offsets": offsets}


class RingClient:
    """One attached SUT. ``dead`` turns true when the SUT has closed its end of a pipe; ``flight`` is told how many
    queries it has."""

    def __init__(self, shape: RingShape, ring: int, requests: int, done: int, flight: Flight) -> None:
        self.shape, self.flight = shape, flight
        self.requests, self.done = requests, done
        os.set_blocking(requests, False)
        os.set_blocking(done, False)
        self._map = map_shared(ring, shape.total_bytes)
        os.close(ring)
        self.memory = memoryview(self._map)
        self.numbers = [struct.pack("<q", slot) for slot in range(shape.slots)]
        self.owner = [FREE] * shape.slots
        self.sequence = [0] * shape.slots
        self.next_sequence = 1
        # The last slot freed is used first: few pages are touched, and those are in the cache.
        self.free = list(range(shape.slots - 1, -1, -1))
        self.log = QueryLog([])
        self.in_flight = 0
        self.duplicates = 0
        self.dead = False
        self._rest = b""

    def begin(self, log: QueryLog) -> None:
        """Start a segment; nothing may be in flight."""
        self.log, self.duplicates = log, 0
        COLLECTED.pack_into(self.memory, COLLECTED_OFFSET, 0, 0, 0)

    def collections(self) -> Collections:
        """Garbage collections that the SUT has told of since the segment began."""
        count, total_ns, longest_ns = COLLECTED.unpack_from(self.memory, COLLECTED_OFFSET)
        return Collections(count=count, total_ns=total_ns, longest_ns=longest_ns)

    def send(self, index: int, payload: memoryview) -> None:
        """Deliver query ``index`` of the log, or drop it when no slot is free."""
        log = self.log
        if not self.free:
            log.status[index] = Status.DROPPED
            return
        slot, sequence = self.free.pop(), self.next_sequence
        self.next_sequence = sequence + 1
        base, size = self.shape.slot_offset(slot), len(payload)
        REQUEST.pack_into(self.memory, base, sequence, size)
        base += REQUEST.size
        self.memory[base : base + size] = payload
        self.owner[slot], self.sequence[slot] = index, sequence
        self.in_flight += 1
        self.flight.set(self.in_flight)
        log.sent[index] = now_ns()
        try:
            os.write(self.requests, self.numbers[slot])
        except BrokenPipeError:
            self.dead = True
        except BlockingIOError:  # the pipe holds fewer numbers than the ring has slots
            self._take_back(slot, index)

    def _take_back(self, slot: int, index: int) -> None:
        self.owner[slot] = FREE
        self.free.append(slot)
        self.in_flight -= 1
        self.flight.set(self.in_flight)
        self.log.sent[index], self.log.status[index] = -1, Status.DROPPED

    def receive(self) -> int:
        """Take the announced answers, stamping first; returns how many queries left the flight."""
        try:
            data = os.read(self.done, READ_BYTES)
        except BlockingIOError:
            return 0
        stamp = now_ns()
        if not data:
            self.dead = True
            return 0
        if self._rest or len(data) % 8:
            data = self._rest + data
            whole = len(data) // 8 * 8
            data, self._rest = data[:whole], data[whole:]
        before = self.in_flight
        for (slot,) in struct.iter_unpack("<q", data):
            self._complete(slot, stamp)
        self.flight.set(self.in_flight)
        return before - self.in_flight

    def _complete(self, slot: int, stamp: int) -> None:
        if not 0 <= slot < self.shape.slots or self.owner[slot] == FREE:
            self.duplicates += 1
            return
        base = self.shape.slot_offset(slot) + self.shape.answer_offset
        sequence, count, status, dequeued, started, worker = ANSWER.unpack_from(self.memory, base)
        expected, index = self.sequence[slot], self.owner[slot]
        if sequence < expected:  # the slot's former query, announced once more
            self.duplicates += 1
            return
        self.owner[slot] = FREE
        self.free.append(slot)
        self.in_flight -= 1
        if index == ABANDONED:
            return
        log = self.log
        log.done[index] = stamp
        log.dequeued[index], log.started[index], log.worker[index] = dequeued, started, worker
        if sequence != expected:
            log.status[index] = Status.WRONG_SEQUENCE
        elif status != GOOD:
            log.status[index] = Status.FAILED
        elif count != log.sizes[index]:
            log.status[index] = Status.WRONG_LENGTH
        else:
            base += ANSWER_BYTES
            log.scores[log.score_bytes[index] : log.score_bytes[index + 1]] = self.memory[base : base + 4 * count]
            log.status[index] = Status.ANSWERED

    def abandon(self) -> None:
        """Tell the SUT that nobody waits for what is in flight; those slots stay taken until they are answered."""
        for slot, owner in enumerate(self.owner):
            if owner >= 0:
                self.owner[slot] = ABANDONED
        CANCELLED_BEFORE.pack_into(self.memory, 0, self.next_sequence)

    def close(self) -> None:
        """Close both pipes: the SUT reads the end of its input."""
        self.flight.set(0)
        os.close(self.requests)
        os.close(self.done)
        self.memory.release()
        self._map.close()
