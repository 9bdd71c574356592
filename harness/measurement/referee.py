"""The main process's hands: the sender, the systems under test, and segments of load. Imports no framework."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from harness.clock import process_cpu_ns
from harness.host.garbage import Collections
from harness.host.liberties import liberties
from harness.host.scheduling import available_cores, cpu_sets
from harness.host.signals import terminate_interrupts
from harness.sut.process import SUT_COMMAND, SideInfo, SutProcess
from harness.traffic.arena import PayloadArena
from harness.traffic.arrivals import Queries, QueryTrace
from harness.traffic.loadgen import LoadGenPlan
from harness.traffic.segment import Segment, segment_from
from harness.traffic.sender_link import SenderLink
from harness.transport.channel import Arrays
from harness.transport.flight import Flight
from harness.transport.slots import RingShape
from harness.transport.wire import payload_bound
from zoo.schema import Split

SLOTS = 1024
STALL_S = 10.0
"""A SUT that has queries in flight and answers none of them for this long hangs."""
MARGIN_S = 10.0
START_S = 300.0
"""What a side may take until it is warm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLimits:
    """limit_ns: the SLA. drain_ns: how long after the last query's limit answers are still awaited.

    Futility: stop when more than max_late queries from index count_from on are late (< 0: never), or the oldest
    query in flight is older than max_age_ns (0: never).
    """

    limit_ns: int
    drain_ns: int = 2_000_000_000
    max_late: int = -1
    max_age_ns: int = 0
    count_from: int = 0


def ring_shape(splits: Iterable[Split], max_samples: int, slots: int = SLOTS) -> RingShape:
    """A ring whose slots hold any ``max_samples`` samples of ``splits``."""
    return RingShape(slots=slots, request_bytes=payload_bound(splits, max_samples), max_samples=max_samples)


class Referee:
    """Context manager over all child processes of a trial. On leaving, for whatever reason, every one is killed.

    control_groups: freeze by control group where the system has them; False: by SIGSTOP, as on all other systems.
    frozen_by: "cgroup" or "sigstop", by side. collections: garbage collections during segments so far, by side, and
    those of the sender.
    """

    def __init__(self, *, stall_s: float = STALL_S, control_groups: bool = True) -> None:
        self.stall_s, self.control_groups = stall_s, control_groups
        self.frozen_by: dict[str, str] = {}
        self.collections: dict[str, Collections] = {"sender": Collections()}
        self.cpus = cpu_sets(available_cores())
        self._sides: dict[str, SutProcess] = {}
        self._sender: SenderLink | None = None
        self._flight: Flight | None = None
        self._arena = PayloadArena()
        self._announced_bytes = 0
        self._terminate = ExitStack()

    def __enter__(self) -> Self:
        self._terminate.enter_context(terminate_interrupts())
        try:
            self._sender = SenderLink(self.cpus.sender)
            self._flight = Flight()
            self._sender.ask({"command": "flight"}, descriptors=[self._flight.descriptor])
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def sender(self) -> SenderLink:
        """The sender process. Raises RuntimeError outside of the ``with`` block."""
        if self._sender is None:
            raise RuntimeError("a Referee works inside of its with block only")
        return self._sender

    @property
    def flight(self) -> Flight:
        """How many queries are in flight. Raises RuntimeError outside of the ``with`` block."""
        if self._flight is None:
            raise RuntimeError("a Referee works inside of its with block only")
        return self._flight

    def start_side(
        self,
        name: str,
        spec: Mapping[str, Any],
        shape: RingShape,
        *,
        command: Sequence[str] = SUT_COMMAND,
        timeout_s: float = START_S,
    ) -> SideInfo:
        """Start a SUT and wait until it is ready. ``spec`` as in ``harness.sut.server``; "environment" is set first.
        A side whose spec says "start_s" may take that long.

        Raises SutFailure with the child's traceback when it ends, or is not ready in time.
        """
        if name in self._sides:
            raise ValueError(f"side {name!r} is already there")
        side = self._sides[name] = SutProcess(name, spec, shape, self.cpus.sut, command, self.control_groups)
        self.frozen_by[name] = side.group.frozen_by
        self.collections.setdefault(name, Collections())
        side.attach(self.sender)
        return side.await_ready(spec.get("start_s", timeout_s))

    def stop_side(self, name: str) -> None:
        """End a side and everything that it started."""
        side = self._sides.pop(name)
        self.sender.ask({"command": "detach", "side": name})
        side.close()

    def run_open(self, name: str, split: Split, trace: QueryTrace, rate_qps: float, limits: OpenLimits) -> Segment:
        """Offer ``trace`` at ``rate_qps`` to one side.

        Raises SutFailure when the SUT crashes, hangs or breaks the protocol, or when the sender does.
        """
        offsets = trace.planned_ns(rate_qps)
        deadline_ns = int(offsets[-1]) + limits.limit_ns + limits.drain_ns
        plan = {
            "limit_ns": limits.limit_ns,
            "deadline_ns": deadline_ns,
            "max_late": limits.max_late,
            "max_age_ns": limits.max_age_ns,
            "count_from": limits.count_from,
        }
        queries = trace.queries(split.groups)
        header = {"command": "open", "plan": plan}
        timeout_s = deadline_ns * 1e-9 + self.stall_s + MARGIN_S
        reply, columns = self._segment(name, split, queries, header, {"offsets_ns": offsets}, timeout_s)
        return segment_from(name, "open", rate_qps, queries, reply, columns)

    def run_closed(
        self, name: str, split: Split, queries: Queries, concurrency: int = 1, budget_s: float = 600.0
    ) -> Segment:
        """Ask ``queries`` in order with ``concurrency`` in flight; stop asking after ``budget_s``.

        Queries that were not asked are left out of the segment. Raises SutFailure as ``run_open``.
        """
        header = {"command": "closed", "concurrency": concurrency, "budget_ns": int(budget_s * 1e9)}
        timeout_s = budget_s + 2 * self.stall_s + 60.0
        reply, columns = self._segment(name, split, queries, header, {}, timeout_s)
        return segment_from(name, "closed", float("nan"), queries, reply, columns)

    def run_loadgen(self, name: str, split: Split, library: Queries, plan: LoadGenPlan) -> tuple[Segment, Queries]:
        """Have MLPerf LoadGen draw queries from ``library`` and offer them to one side; returns also what it drew.

        Raises SutFailure as ``run_open``; after a stall once LoadGen's own time is over.
        """
        header = {"command": "loadgen", "plan": dataclasses.asdict(plan)}
        timeout_s = 2.0 * plan.seconds + 2.0 * self.stall_s + 60.0
        reply, columns = self._segment(name, split, library, header, {}, timeout_s)
        queries = library.drawn(columns.pop("chosen"))
        return segment_from(name, "open", plan.rate_qps, queries, reply, columns), queries

    def freeze(self, name: str) -> None:
        """Stop every process of a side; returns when all have stopped."""
        self._sides[name].group.freeze()
        self._sides[name].frozen = True

    def thaw(self, name: str) -> None:
        """Let a side run again."""
        self._sides[name].group.thaw()
        self._sides[name].frozen = False

    def cpu_ns(self, name: str) -> int:
        """CPU time that all processes of a side have used so far. It does not move while the side is frozen."""
        return self._sides[name].group.cpu_ns()

    def own_cpu_ns(self) -> int:
        """CPU time of this process, the sender and all sides so far."""
        groups = (self.sender.group, *(side.group for side in self._sides.values()))
        return process_cpu_ns(os.getpid()) + sum(group.cpu_ns() for group in groups)

    def liberties(self, name: str) -> tuple[str, ...]:
        """Cores and priority that a side gave itself."""
        return liberties(self.pids(name), self.cpus.sut)

    def pids(self, name: str) -> tuple[int, ...]:
        """Processes of a side."""
        return tuple(stat.pid for stat in self._sides[name].group.members())

    def rss_bytes(self, name: str) -> int:
        """Resident memory of a side."""
        return self._sides[name].group.rss_bytes()

    def _segment(
        self, name: str, split: Split, queries: Queries, header: dict[str, Any], arrays: Arrays, timeout_s: float
    ) -> tuple[dict[str, Any], Arrays]:
        side = self._sides[name]
        if side.frozen:
            raise ValueError(f"side {name!r} is frozen")
        if len(queries) == 0:
            raise ValueError("a segment needs at least one query")
        if int(queries.sizes.max()) > side.shape.max_samples:
            raise ValueError(f"a query asks for more than {side.shape.max_samples} samples")
        starts, lengths = self._arena.place(split, queries, side.shape.request_bytes)
        self._announce_arena()
        arrays = {**arrays, "starts": starts, "lengths": lengths, "sizes": queries.sizes}
        reply, columns = self.sender.ask(
            {**header, "side": name, "stall_ns": int(self.stall_s * 1e9)}, arrays, timeout_s=timeout_s
        )
        if reply["dead"] or reply["aborted"] == "sut_exit":
            raise side.failure("ended in the middle of a segment")
        if reply["duplicates"]:
            raise side.failure(f"broke the protocol: {reply['duplicates']} answers for queries not in flight")
        if reply["hung"] or reply["aborted"] == "stall":
            raise side.failure(f"hangs: queries in flight, and no answer for {self.stall_s:.0f} s")
        for owner, process in ((name, "sut"), ("sender", "sender")):
            self.collections[owner] += Collections(**reply["collections"][process])
        return reply, columns

    def _announce_arena(self) -> None:
        if self._arena.bytes != self._announced_bytes:
            new = self._announced_bytes == 0
            command = {"command": "arena", "bytes": self._arena.bytes, "new": new}
            self.sender.ask(command, descriptors=(self._arena.descriptor,) if new else ())
            self._announced_bytes = self._arena.bytes

    def _close(self) -> None:
        """Kill and reap everything."""
        for side in self._sides.values():
            side.close()
        self._sides.clear()
        if self._sender is not None:
            self._sender.close()
        if self._flight is not None:
            self._flight.close()
            self._flight = None
        self._arena.close()
        self._terminate.close()
