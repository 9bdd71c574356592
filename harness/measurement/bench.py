"""What the stages of a measurement share, and the two ways to load one side while the others are frozen."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from harness.console.observer import Observer
from harness.estimate.replay import THAW_NS, SegmentObservation
from harness.measurement.evidence import Evidence
from harness.measurement.referee import OpenLimits, Referee
from harness.options import Budget
from harness.record.result import SegmentInfo
from harness.traffic.arrivals import Queries, QueryTrace, make_trace
from harness.traffic.segment import Segment
from harness.trial import Trial
from zoo.schema import Split

FROZEN_CPU_NS = 20_000_000
"""CPU time that a frozen side may show: stopping takes a moment, and the kernel counts in ticks."""
OFFLINE_IN_FLIGHT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One stretch of offered load: its purpose, its place among the quads, the seed index of its trace."""

    purpose: str
    index: int
    rate_qps: float
    seconds: float
    quad: int = -1
    max_late: int = -1
    max_age_ns: int = 0


@dataclass(slots=True, kw_only=True)
class Bench:
    """Referee, data and notes of one trial. ``split`` is the test split; at most one side is awake at any time."""

    trial: Trial
    budget: Budget
    referee: Referee
    split: Split
    evidence: Evidence
    observer: Observer
    remarks: list[str] = field(default_factory=list)
    _awake: str = ""
    _sides: list[str] = field(default_factory=list)
    _frozen_cpu_ns: dict[str, int] = field(default_factory=dict)

    @property
    def limit_ns(self) -> int:
        """The SLA's latency limit."""
        return int(self.trial.sla.limit_ms * 1e6)

    def joined(self, side: str) -> None:
        """A side has been started (and is awake); every other one is asleep."""
        self._sleep_current()
        self._sides.append(side)
        self._awake = side

    def wake(self, side: str) -> None:
        """Freeze the side that is awake and thaw ``side``; remarks when a frozen side has used the CPU."""
        if self._awake == side:
            return
        self._sleep_current()
        used = self.referee.cpu_ns(side) - self._frozen_cpu_ns[side]
        if used > FROZEN_CPU_NS:
            self.remarks.append(f"{side} used {used / 1e6:.0f} ms of CPU time while it was frozen")
        self.referee.thaw(side)
        self._awake = side

    def _sleep_current(self) -> None:
        if self._awake:
            self.referee.freeze(self._awake)
            self._frozen_cpu_ns[self._awake] = self.referee.cpu_ns(self._awake)
        self._awake = ""

    def trace(self, purpose: str, index: int, count: int, sizes: str = "") -> QueryTrace:
        """``count`` queries of the published trace (trial's seed, purpose, index), sizes as the trial says."""
        seed = trace_seed(self.trial.seed, purpose, index)
        return make_trace(seed, count, sizes or self.trial.query_sizes, self.split.groups)

    def open_loop(self, side: str, stretch: Stretch) -> SegmentObservation:
        """Offer Poisson arrivals at one rate for ``stretch.seconds``; the first second loads the queue only."""
        self.wake(side)
        trace = self._trace_of(stretch)
        limits = OpenLimits(
            limit_ns=self.limit_ns,
            max_late=stretch.max_late,
            max_age_ns=stretch.max_age_ns,
            count_from=int(np.searchsorted(trace.planned_ns(stretch.rate_qps), THAW_NS)),
        )
        segment = self.referee.run_open(side, self.split, trace, stretch.rate_qps, limits)
        offsets = trace.planned_ns(stretch.rate_qps)
        start_ns = int(segment.planned_ns[0] - offsets[0])
        self._keep(segment, stretch, (start_ns + int(THAW_NS), start_ns + int(stretch.seconds * 1e9)))
        self._note_answers(side, segment, trace.queries(self.split.groups))
        latency = np.where(segment.answered, segment.done_ns - segment.planned_ns, np.inf)
        late = float(np.mean(segment.late(self.limit_ns)))
        self.observer.advance(stretch.seconds, f"{side} {stretch.rate_qps:,.0f} qps, {100 * late:.1f} % late")
        return SegmentObservation(
            offered_qps=stretch.rate_qps,
            trace_id=f"{stretch.purpose}/{stretch.index}",
            quad=stretch.quad,
            planned_ns=offsets,
            sizes=segment.size,
            latency_ns=latency,
            duration_s=stretch.seconds,
            aborted=bool(segment.aborted),
        )

    def closed_loop(self, side: str, queries: Queries, stretch: Stretch, concurrency: int = 1) -> Segment:
        """Ask ``queries`` one after another (``concurrency`` in flight) for at most ``stretch.seconds``."""
        self.wake(side)
        segment = self.referee.run_closed(side, self.split, queries, concurrency, stretch.seconds)
        first, last = (int(segment.planned_ns[0]), int(segment.planned_ns[-1]) + 1) if len(segment) else (0, 0)
        self._keep(segment, stretch, (first, last))
        self._note_answers(side, segment, queries)
        return segment

    def take(self, segment: Segment, queries: Queries, stretch: Stretch, counted_ns: tuple[int, int]) -> None:
        """Keep a segment that was not offered by our own sender; queries planned in ``counted_ns`` count."""
        self._keep(segment, stretch, counted_ns)
        self._note_answers(segment.side, segment, queries)

    def _trace_of(self, stretch: Stretch) -> QueryTrace:
        mean = stretch.rate_qps * stretch.seconds
        count = math.ceil(mean + 6.0 * math.sqrt(mean) + 16)
        trace = self.trace(stretch.purpose, stretch.index, count)
        return trace.cut(0, max(1, int(np.searchsorted(trace.unit_arrivals, mean))))

    def _keep(self, segment: Segment, stretch: Stretch, counted_ns: tuple[int, int]) -> None:
        inside = (segment.planned_ns >= counted_ns[0]) & (segment.planned_ns < counted_ns[1])
        info = SegmentInfo(
            side=segment.side,
            segment=len(self.evidence.segments),
            purpose=stretch.purpose,
            offered_qps=segment.offered_qps if segment.mode == "open" else None,
            counted_from_ns=counted_ns[0],
            counted_to_ns=counted_ns[1],
            queries=int(np.count_nonzero(inside)),
            late=int(np.count_nonzero(inside & segment.late(self.limit_ns))),
            quad=stretch.quad,
        )
        self.evidence.add(segment, info)

    def _note_answers(self, side: str, segment: Segment, queries: Queries) -> None:
        if side not in self.evidence.answers:
            return
        count = len(segment)
        answered = np.repeat(segment.answered, np.diff(queries.offsets[: count + 1]))
        samples = queries.samples[: queries.offsets[count]]
        self.evidence.answers[side].note(samples[answered], segment.scores[answered])


def trace_seed(seed: int, purpose: str, index: int) -> int:
    """Seed of one trace: the first 8 bytes of SHA-256("seed/purpose/index"), so that anyone can make it again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()[:8], "big")
