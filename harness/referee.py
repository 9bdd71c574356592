"""The main process's hands: the sender, the systems under test, and segments of load. Imports no framework."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from harness.arena import PayloadArena
from harness.arrivals import Queries, QueryTrace
from harness.channel import Arrays, Channel, ChannelClosedError, ChannelTimeoutError
from harness.clock import now_ns
from harness.errors import SutFailure
from harness.processes import ProcessGroup
from harness.scheduling import available_cores, cpu_sets
from harness.segment import Segment, Status
from harness.slots import RingShape, create_shared
from harness.wire import payload_bound
from zoo.schema import Split

SLOTS = 1024
STALL_S = 10.0
"""A SUT that has queries in flight and answers none of them for this long hangs."""
MARGIN_S = 10.0
SUT_COMMAND = (sys.executable, "-m", "harness.sut")


@dataclass(frozen=True, slots=True, kw_only=True)
class SideInfo:
    """A started side: what the SUT said when it was ready; process start to ready, by this process's clock."""

    report: dict[str, Any]
    start_s: float
    pid: int
    rss_bytes: int


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


@dataclass(slots=True)
class _Side:
    group: ProcessGroup
    channel: Channel
    shape: RingShape
    frozen: bool = False


def ring_shape(splits: Iterable[Split], max_samples: int, slots: int = SLOTS) -> RingShape:
    """A ring whose slots hold any ``max_samples`` samples of ``splits``."""
    return RingShape(slots=slots, request_bytes=payload_bound(splits, max_samples), max_samples=max_samples)


class Referee:
    """Context manager over all child processes of a trial. On leaving, for whatever reason, every one is killed."""

    def __init__(self) -> None:
        self.cpus = cpu_sets(available_cores())
        self.priority = ""
        self._sides: dict[str, _Side] = {}
        self._arena = PayloadArena()
        self._announced_bytes = 0
        self._terminate: Any = None

    def __enter__(self) -> Self:
        self._terminate = _catch_terminate()
        try:
            self._sender, self._sender_channel = _spawn(
                (sys.executable, "-m", "harness.load"), self.cpus.sender, {}, descriptors=()
            )
            self.priority = self._hear_sender(60.0)[0]["priority"]
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def start_side(
        self,
        name: str,
        spec: Mapping[str, Any],
        shape: RingShape,
        *,
        command: Sequence[str] = SUT_COMMAND,
        timeout_s: float = 300.0,
    ) -> SideInfo:
        """Start a SUT and wait until it is ready. ``spec`` as in ``harness.sut``; its "environment" is set first.

        Raises SutFailure with the child's traceback when it ends, or is not ready in time.
        """
        if name in self._sides:
            raise ValueError(f"side {name!r} is already there")
        ring = create_shared(shape.total_bytes, f"recarena-{name}")
        take_requests, put_requests = os.pipe()
        take_done, put_done = os.pipe()
        start = now_ns()
        inherited = (ring, take_requests, put_done)
        group, channel = _spawn(command, self.cpus.sut, spec.get("environment", {}), descriptors=inherited)
        side = self._sides[name] = _Side(group, channel, shape)
        os.close(take_requests)
        os.close(put_done)
        pipes = {"ring": ring, "requests": take_requests, "done": put_done}
        shape_json = {"slots": shape.slots, "request_bytes": shape.request_bytes, "max_samples": shape.max_samples}
        try:
            channel.send({"spec": dict(spec), "shape": shape_json, "descriptors": pipes})
            self._ask(
                {"command": "attach", "side": name, "shape": shape_json}, {}, MARGIN_S, (ring, put_requests, take_done)
            )
            header, _ = channel.receive(timeout_s)
        except ChannelTimeoutError:
            raise self._failure(name, f"was not ready within {timeout_s:.0f} s") from None
        except ChannelClosedError:
            raise self._failure(name, "ended before it was ready") from None
        finally:
            for descriptor in (ring, put_requests, take_done):
                os.close(descriptor)
        if "ready" not in header:
            raise self._failure(name, "could not be built", header)
        start_s = (now_ns() - start) * 1e-9
        return SideInfo(report=header["ready"], start_s=start_s, pid=side.group.pid, rss_bytes=side.group.rss_bytes())

    def stop_side(self, name: str) -> None:
        """End a side and everything that it started."""
        side = self._sides.pop(name)
        self._ask({"command": "detach", "side": name}, {}, MARGIN_S)
        side.group.kill()
        side.channel.close()

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
        timeout_s = deadline_ns * 1e-9 + STALL_S + MARGIN_S
        reply, columns = self._segment(name, split, queries, header, {"offsets_ns": offsets}, timeout_s)
        return _to_segment(name, "open", rate_qps, queries, reply, columns)

    def run_closed(
        self, name: str, split: Split, queries: Queries, concurrency: int = 1, budget_s: float = 600.0
    ) -> Segment:
        """Ask ``queries`` in order with ``concurrency`` in flight; stop asking after ``budget_s``.

        Queries that were not asked are left out of the segment. Raises SutFailure as ``run_open``.
        """
        header = {"command": "closed", "concurrency": concurrency, "budget_ns": int(budget_s * 1e9)}
        timeout_s = budget_s + 2 * STALL_S + 60.0
        reply, columns = self._segment(name, split, queries, header, {}, timeout_s)
        return _to_segment(name, "closed", float("nan"), queries, reply, columns)

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

    def pids(self, name: str) -> tuple[int, ...]:
        """Processes of a side."""
        return tuple(stat.pid for stat in self._sides[name].group.members())

    def rss_bytes(self, name: str) -> int:
        """Resident memory of a side."""
        return self._sides[name].group.rss_bytes()

    @property
    def sender_pid(self) -> int:
        """The sender's process."""
        return self._sender.pid

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
        reply, columns = self._ask({**header, "side": name, "stall_ns": int(STALL_S * 1e9)}, arrays, timeout_s)
        if reply["dead"] or reply["aborted"] == "sut_exit":
            raise self._failure(name, "ended in the middle of a segment")
        if reply["hung"] or (reply["aborted"] == "age" and header["command"] == "closed"):
            raise self._failure(name, f"hangs: queries in flight, and no answer for {STALL_S:.0f} s")
        if reply["duplicates"]:
            raise self._failure(name, f"broke the protocol: {reply['duplicates']} answers for queries not in flight")
        return reply, columns

    def _announce_arena(self) -> None:
        if self._arena.bytes != self._announced_bytes:
            new = self._announced_bytes == 0
            command = {"command": "arena", "bytes": self._arena.bytes, "new": new}
            self._ask(command, {}, MARGIN_S, (self._arena.descriptor,) if new else ())
            self._announced_bytes = self._arena.bytes

    def _ask(
        self, header: dict[str, Any], arrays: Arrays, timeout_s: float, descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], Arrays]:
        try:
            self._sender_channel.send(header, arrays)
            if descriptors:
                self._sender_channel.send_descriptors(list(descriptors))
        except ChannelClosedError:
            raise self._sender_failure("is gone") from None
        return self._hear_sender(timeout_s)

    def _hear_sender(self, timeout_s: float) -> tuple[dict[str, Any], Arrays]:
        try:
            return self._sender_channel.receive(timeout_s)
        except ChannelClosedError:
            raise self._sender_failure("ended") from None
        except ChannelTimeoutError:
            raise self._sender_failure("does not answer") from None

    def _sender_failure(self, what: str) -> SutFailure:
        self._sender.kill()
        return SutFailure(f"The sender process {what} ({self._sender.ending()}).\n{self._sender.log_tail()}")

    def _failure(self, name: str, what: str, header: Mapping[str, Any] | None = None) -> SutFailure:
        """Kill the side and say what it left: its own report of the error, else the end of its log."""
        side = self._sides[name]
        if header is None:
            try:
                header, _ = side.channel.receive(1.0)
            except (ChannelClosedError, ChannelTimeoutError, ValueError):
                header = {}
        ended = side.group.ending()
        side.group.kill()
        said = str(header.get("error", "")) or side.group.log_tail() or "It left no message."
        return SutFailure(f"The system under test {name!r} {what}{f' ({ended})' if ended else ''}.\n{said}")

    def _close(self) -> None:
        """Kill and reap everything; used on the way out, so it must not stop at the first trouble."""
        groups = [side.group for side in self._sides.values()]
        if hasattr(self, "_sender"):
            groups.append(self._sender)
        for group in groups:
            group.kill()
        for side in self._sides.values():
            side.channel.close()
        if hasattr(self, "_sender"):
            self._sender_channel.close()
        self._sides.clear()
        self._arena.close()
        os.close(self._arena.descriptor)
        if self._terminate is not None:
            signal.signal(signal.SIGTERM, self._terminate)


def _spawn(
    command: Sequence[str], cores: tuple[int, ...], environment: Mapping[str, str], *, descriptors: Sequence[int]
) -> tuple[ProcessGroup, Channel]:
    channel, theirs = Channel.pair()
    with theirs:
        argv = [*command, "--control", str(theirs.fileno()), "--parent", str(os.getpid())]
        group = ProcessGroup.start(
            argv,
            cores=cores,
            descriptors=[theirs.fileno(), *descriptors],
            environment=environment,
            log=tempfile.TemporaryFile(),  # noqa: SIM115 (it lives as long as the group)
        )
    return group, channel


def _catch_terminate() -> Any:
    """Turn SIGTERM into KeyboardInterrupt, so that the way out is one; returns the handler to restore."""
    try:
        before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, _interrupt)
    except ValueError:  # not the main thread: the kernel kills the children with this process
        return None
    return before


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _to_segment(
    name: str, mode: Any, rate_qps: float, queries: Queries, reply: Mapping[str, Any], columns: Arrays
) -> Segment:
    """The reply as a Segment; in a closed loop, queries that were never asked are left out."""
    asked = len(queries)
    if mode == "closed":
        asked = int(np.count_nonzero(columns["status"] != Status.NOT_SENT))
    offsets = columns.pop("score_offsets")[: asked + 1]
    scores = columns.pop("scores")[: offsets[-1]]
    cut = {key: column[:asked] for key, column in columns.items()}
    return Segment(
        side=name,
        mode=mode,
        offered_qps=rate_qps,
        query_id=queries.query_id[:asked],
        size=queries.sizes[:asked],
        planned_ns=cut["planned"],
        sent_ns=cut["sent"],
        done_ns=cut["done"],
        status=cut["status"],
        dequeued_ns=cut["dequeued"],
        started_ns=cut["started"],
        worker=cut["worker"],
        scores=scores,
        score_offsets=offsets,
        aborted=reply["aborted"],
        duplicates=reply["duplicates"],
        sender_cpu_ns=reply["sender_cpu_ns"],
    )
