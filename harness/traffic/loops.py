"""The two ways to send: an open loop at planned moments, and a closed loop with a number of queries in flight.

One thread does everything. Waiting is a ``select`` on the answers that ends shortly before the next planned moment;
only the last ``SPIN_NS`` are spent polling.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import Protocol

from harness.clock import now_ns
from harness.traffic.ring_client import PENDING, QueryLog, RingClient
from harness.traffic.segment import Abort, Status

SPIN_NS = 40_000
"""The sender polls this long before a planned moment; waking up takes most of it."""
LEAD_NS = 2_000_000
"""From the command to the zero of the schedule, so that the first arrivals are not late by construction."""
LOOK_NS = 20_000_000
"""The futility rules are looked at least this often."""


class Payloads(Protocol):
    """Payload ``index`` of the segment, as a view of the arena."""

    def __getitem__(self, index: int) -> memoryview: ...


class InterruptedSegmentError(Exception):
    """The main process spoke, or is gone, in the middle of a segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoopPlan:
    """Offsets from the start [Q], ascending; the limit; when to stop.

    deadline_ns counts from the start. max_late (< 0: never) and max_age_ns (0: never) are the futility rules: stop
    once more than ``max_late`` queries from ``count_from`` on are certainly late, or the oldest query in flight is
    older than ``max_age_ns``. The first rule is exact: it stops only what must end with more than ``max_late`` late.
    """

    offsets_ns: list[int]
    limit_ns: int
    deadline_ns: int
    max_late: int
    max_age_ns: int
    count_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoopLimits:
    """Stop sending after ``budget_ns``; give up when no answer came for ``stall_ns``."""

    budget_ns: int
    stall_ns: int
    control: int


def open_loop(client: RingClient, payloads: Payloads, plan: OpenLoopPlan, control: int) -> Abort:
    """Send every query at its planned moment and wait for the answers until the deadline.

    Latecomers are sent at once, in order: a blocked sender charges its delay to the latency, and logs it.
    """
    log, start = client.log, now_ns() + LEAD_NS
    log.planned = planned = [start + offset for offset in plan.offsets_ns]
    count, following, deadline = len(planned), 0, start + plan.deadline_ns
    futility = Futility(plan, log)
    waiting = [client.done, control]
    abort: Abort = ""
    while not abort and (following < count or client.in_flight):
        moment = now_ns()
        if following < count and moment >= planned[following]:
            client.send(following, payloads[following])
            following += 1
        elif moment >= deadline:
            break
        else:
            until = planned[following] if following < count else deadline
            _wait(client, waiting, min(until - SPIN_NS - moment, LOOK_NS))
            abort = futility.look(now_ns(), following)
        if client.dead:
            abort = "sut_exit"
        elif client.duplicates > client.shape.slots:
            abort = "protocol"
    return abort


def closed_loop(client: RingClient, payloads: Payloads, concurrency: int, limits: ClosedLoopLimits) -> Abort:
    """Keep ``concurrency`` queries in flight until all are answered, or until the budget ends.

    A query counts as planned at the moment when its place in flight became free.
    """
    log, waiting = client.log, [client.done, limits.control]
    following, start = 0, now_ns()
    progress = start
    while not client.dead and client.duplicates <= client.shape.slots:
        moment = now_ns()
        open_for_more = following < len(log.sizes) and moment - start < limits.budget_ns
        if open_for_more and client.in_flight < concurrency:
            log.planned[following] = moment
            client.send(following, payloads[following])
            following += 1
        elif not client.in_flight:
            return ""
        elif _wait(client, waiting, LOOK_NS):
            progress = now_ns()
        elif now_ns() - progress > limits.stall_ns:
            return "stall"
    return "sut_exit" if client.dead else "protocol"


def drain(client: RingClient, stall_ns: int, control: int) -> bool:
    """Wait until nothing is in flight; False when no answer came for ``stall_ns``, or the SUT is gone."""
    progress = now_ns()
    while client.in_flight and not client.dead:
        if _wait(client, [client.done, control], LOOK_NS):
            progress = now_ns()
        elif now_ns() - progress > stall_ns:
            return False
    return not client.dead


def _wait(client: RingClient, waiting: list[int], timeout_ns: int) -> int:
    """Wait for answers, at most ``timeout_ns``; returns how many queries left the flight."""
    ready = select.select(waiting, (), (), timeout_ns * 1e-9 if timeout_ns > 0 else 0)[0]
    if not ready:
        return 0
    if waiting[1] in ready:
        raise InterruptedSegmentError
    return client.receive()


class Futility:
    """Counts what is certainly late, once per query: at the moment when its limit has passed."""

    def __init__(self, plan: OpenLoopPlan, log: QueryLog) -> None:
        self.plan, self.log = plan, log
        self.late = 0
        self.horizon = 0
        self.oldest = 0

    def look(self, moment: int, sent: int) -> Abort:
        log, limit, planned = self.log, self.plan.limit_ns, self.log.planned
        while self.horizon < sent and moment - planned[self.horizon] > limit:
            index = self.horizon
            good = log.status[index] == Status.ANSWERED and log.done[index] - planned[index] <= limit
            self.late += not good and index >= self.plan.count_from
            self.horizon += 1
        while self.oldest < sent and log.status[self.oldest] != PENDING:
            self.oldest += 1
        if 0 <= self.plan.max_late < self.late:
            return "late"
        if self.plan.max_age_ns and self.oldest < sent and moment - planned[self.oldest] > self.plan.max_age_ns:
            return "age"
        return ""
