"""The sender process: ``python -m harness.traffic.sender --control FD``.

One thread; stdlib and numpy only (MLPerf LoadGen, where it is asked for, has threads of its own); owns the clock that
counts. It obeys one command at a time from the main process (see ``harness.measurement.referee``).
"""

from __future__ import annotations

import dataclasses
import gc
import mmap
import os
from typing import Any

from harness.clock import process_cpu_ns
from harness.host.child import channel_to_parent
from harness.host.garbage import Collections, watch_collections
from harness.host.scheduling import raise_priority
from harness.traffic.loops import ClosedLoopLimits, InterruptedSegmentError, OpenLoopPlan, closed_loop, drain, open_loop
from harness.traffic.ring_client import QueryLog, RingClient
from harness.traffic.segment import Abort, Status
from harness.transport.channel import Arrays, Channel, ChannelClosedError
from harness.transport.flight import Flight
from harness.transport.slots import RingShape, map_shared

Reply = tuple[dict[str, Any], Arrays]


class ArenaPayloads:
    """Views of the payloads of one segment."""

    def __init__(self, arena: memoryview, starts: list[int], lengths: list[int]) -> None:
        self._views = [arena[start : start + length] for start, length in zip(starts, lengths, strict=True)]

    def __getitem__(self, index: int) -> memoryview:
        return self._views[index]


class Sender:
    """State between commands: the arena and the attached sides."""

    def __init__(self, control: Channel) -> None:
        self.control = control
        self.sides: dict[str, RingClient] = {}
        self.arena: mmap.mmap | None = None
        self.arena_descriptor = -1
        self.flight = Flight()
        self.collections = Collections()
        watch_collections(self._collected)

    def arena_is(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Map the arena (again, when it has grown)."""
        if header["new"]:
            (self.arena_descriptor,) = self.control.receive_descriptors(1)
        self.arena = map_shared(self.arena_descriptor, header["bytes"])
        return {}, {}

    def flight_is(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Tell how many queries are in flight in this memory from now on."""
        (descriptor,) = self.control.receive_descriptors(1)
        self.flight.close()
        self.flight = Flight(descriptor)
        return {}, {}

    def attach(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Take over one side's ring and pipes."""
        ring, requests, done = self.control.receive_descriptors(3)
        self.sides[header["side"]] = RingClient(RingShape(**header["shape"]), ring, requests, done, self.flight)
        return {}, {}

    def detach(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Let one side go."""
        self.sides.pop(header["side"]).close()
        return {}, {}

    def open(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Run an open-loop segment."""
        client, payloads = self._begin(header, arrays)
        plan = OpenLoopPlan(offsets_ns=arrays["offsets_ns"].tolist(), **header["plan"])
        cpu = process_cpu_ns(os.getpid())
        abort = open_loop(client, payloads, plan, self.control.fileno())
        return self._end(client, abort, cpu, header["stall_ns"])

    def closed(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Run a closed-loop segment."""
        client, payloads = self._begin(header, arrays)
        limits = ClosedLoopLimits(
            budget_ns=header["budget_ns"], stall_ns=header["stall_ns"], control=self.control.fileno()
        )
        cpu = process_cpu_ns(os.getpid())
        abort = closed_loop(client, payloads, header["concurrency"], limits)
        return self._end(client, abort, cpu, header["stall_ns"])

    def loadgen(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Have MLPerf LoadGen run a segment; the queries of ``arrays`` are the library that it draws from."""
        from harness.traffic.loadgen import LoadGenPlan, loadgen_segment

        client, payloads = self._begin(header, arrays)
        cpu, stall_ns = process_cpu_ns(os.getpid()), header["stall_ns"]
        plan = LoadGenPlan(**header["plan"])
        abort, chosen = loadgen_segment(client, payloads, arrays["sizes"].tolist(), plan, stall_ns)
        reply, columns = self._end(client, abort, cpu, stall_ns)
        return reply, {**columns, "chosen": chosen}

    def _begin(self, header: dict[str, Any], arrays: Arrays) -> tuple[RingClient, ArenaPayloads]:
        client = self.sides[header["side"]]
        client.begin(QueryLog(arrays["sizes"].tolist()))
        assert self.arena is not None
        payloads = ArenaPayloads(memoryview(self.arena), arrays["starts"].tolist(), arrays["lengths"].tolist())
        gc.collect()
        gc.freeze()
        self.collections = Collections()
        return client, payloads

    def _end(self, client: RingClient, abort: Abort, cpu_ns: int, stall_ns: int) -> Reply:
        cpu_ns = process_cpu_ns(os.getpid()) - cpu_ns
        collections = {"sender": self.collections, "sut": client.collections()}
        client.log.close(Status.UNFINISHED)
        hung = False
        if client.in_flight and not client.dead:
            client.abandon()
            hung = not drain(client, stall_ns, self.control.fileno()) and not client.dead
        header = {"aborted": abort, "duplicates": client.duplicates, "sender_cpu_ns": cpu_ns}
        columns = client.log.arrays()
        client.log = QueryLog([])
        counts = {name: dataclasses.asdict(value) for name, value in collections.items()}
        return {**header, "hung": hung, "dead": client.dead, "collections": counts}, columns

    def _collected(self, more: Collections) -> None:
        self.collections += more


def serve(control: Channel) -> None:
    """Obey commands until the main process closes the channel."""
    sender = Sender(control)
    commands = {
        "arena": sender.arena_is,
        "flight": sender.flight_is,
        "attach": sender.attach,
        "detach": sender.detach,
        "open": sender.open,
        "closed": sender.closed,
        "loadgen": sender.loadgen,
    }
    while True:
        try:
            header, arrays = control.receive()
        except ChannelClosedError:
            return
        try:
            reply, columns = commands[header.pop("command")](header, arrays)
        except InterruptedSegmentError:
            return
        control.send(reply, columns)


def main() -> None:
    """Entry point of the sender process."""
    control = channel_to_parent("harness.traffic.sender")
    # Nothing in the timed path makes reference cycles; a collection in it would be a pause.
    gc.disable()
    control.send({"priority": raise_priority()})
    try:
        serve(control)
    except ChannelClosedError:
        return


if __name__ == "__main__":
    main()
