"""What the stages of a measurement share, and the two ways to load one side while the others are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.console.observer import Observer
from harness.estimate.replay import THAW_NS, SegmentObservation
from harness.measurement.awake import Awake
from harness.measurement.evidence import Evidence
from harness.measurement.idle_cores import Loop
from harness.measurement.referee import OpenLimits, Referee
from harness.options import Budget
from harness.record.result import SegmentInfo
from harness.record.segments import SegmentRows
from harness.traffic.arrivals import Queries, QueryTrace
from harness.traffic.published import PublishedTrace, trace_seed
from harness.traffic.segment import Segment
from harness.transport.slots import RingShape
from harness.trial import Trial
from zoo.schema import Split

__all__ = ["OFFLINE_IN_FLIGHT", "Bench", "ClosedStretch", "Quad", "Stretch", "trace_seed"]

OFFLINE_IN_FLIGHT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One stretch of an open loop: its purpose, its place among the quads, the index of its trace."""

    purpose: str
    index: int
    rate_qps: float
    seconds: float
    quad: int = -1
    max_late: int = -1
    max_age_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedStretch:
    """One stretch of a closed loop: the first ``count`` queries of a trace, for at most ``seconds``.

    sizes: distribution of query sizes, "" for that of the trial. concurrency: queries in flight.
    """

    purpose: str
    index: int
    count: int
    seconds: float
    sizes: str = ""
    quad: int = -1
    concurrency: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quad:
    """One ABBA quad. ``place``: number of the quad whose traces and orders, of sides and of rates, it runs: its own, or
    that of the void one that it repeats."""

    number: int
    place: int


@dataclass(slots=True, kw_only=True)
class Bench:
    """Referee, data and notes of one trial. ``split`` is the test split; at most one side is awake at any time.
    ``loop`` keeps cores from halting, where one does; ``unseen``: rows that no side is asked for but once."""

    trial: Trial
    budget: Budget
    referee: Referee
    split: Split
    evidence: Evidence
    observer: Observer
    remarks: list[str] = field(default_factory=list)
    loop: Loop = field(default_factory=Loop)
    unseen: Split | None = None
    _awake: Awake = field(init=False)

    def __post_init__(self) -> None:
        self._awake = Awake(self.referee, self.remarks)

    @property
    def splits(self) -> list[Split]:
        """Whatever a side may be asked for."""
        return [self.split] if self.unseen is None else [self.split, self.unseen]

    @property
    def limit_ns(self) -> int:
        """The SLA's latency limit."""
        return int(self.trial.sla.limit_ms * 1e6)

    def own_cpu_ns(self) -> int:
        """CPU time so far of all that belongs to the measurement: referee, sender, sides, what keeps cores awake."""
        return self.referee.own_cpu_ns() + self.loop.cpu_ns()

    def joined(self, side: str) -> None:
        """A side has been started (and is awake); every other one is asleep."""
        self._awake.joined(side)

    def restart(self, side: str, spec: Mapping[str, Any], shape: RingShape) -> None:
        """End a side and start it again in a fresh process, which is then awake."""
        self._awake.sleep()
        self.referee.stop_side(side)
        self.referee.start_side(side, spec, shape)
        self._awake.joined(side)

    def wake(self, side: str) -> None:
        """Freeze the side that is awake and thaw ``side``; remarks when a frozen side has used the CPU."""
        self._awake.wake(side)

    def trace(self, purpose: str, index: int, count: int, sizes: str = "") -> QueryTrace:
        """``count`` queries of the published trace (trial's seed, purpose, index), sizes as the trial says."""
        return self._published(purpose, index, sizes).first(count, self.split.groups)

    def _published(self, purpose: str, index: int, sizes: str = "") -> PublishedTrace:
        return PublishedTrace(seed=self.trial.seed, purpose=purpose, index=index, sizes=sizes or self.trial.query_sizes)

    def open_loop(self, side: str, stretch: Stretch) -> SegmentObservation:
        """Offer Poisson arrivals at one rate for ``stretch.seconds``; the first second loads the queue only."""
        self.wake(side)
        mean = stretch.rate_qps * stretch.seconds
        trace = self._published(stretch.purpose, stretch.index).until(mean, self.split.groups)
        limits = OpenLimits(
            limit_ns=self.limit_ns,
            max_late=stretch.max_late,
            max_age_ns=stretch.max_age_ns,
            count_from=int(np.searchsorted(trace.planned_ns(stretch.rate_qps), THAW_NS)),
        )
        segment = self.referee.run_open(side, self.split, trace, stretch.rate_qps, limits)
        offsets = trace.planned_ns(stretch.rate_qps)
        start_ns = int(segment.planned_ns[0] - offsets[0])
        counted = (start_ns + int(THAW_NS), start_ns + int(stretch.seconds * 1e9))
        rows = self._keep_open(segment, stretch, counted)
        self._note_answers(side, segment, trace.queries(self.split.groups))
        late = float(np.mean(segment.late(self.limit_ns)))
        self.observer.advance(stretch.seconds, f"{side} {stretch.rate_qps:,.0f} qps, {100 * late:.1f} % late")
        return rows.observation()

    def closed_loop(self, side: str, asked: ClosedStretch) -> SegmentRows:
        """Ask queries one after another (``concurrency`` in flight) until all are answered or the time is over."""
        self.wake(side)
        trace = self.trace(asked.purpose, asked.index, asked.count, asked.sizes)
        queries = trace.queries(self.split.groups)
        segment = self.referee.run_closed(side, self.split, queries, asked.concurrency, asked.seconds)
        first, last = (int(segment.planned_ns[0]), int(segment.planned_ns[-1]) + 1) if len(segment) else (0, 0)
        rows = self._keep(
            segment,
            purpose=asked.purpose,
            offered_qps=None,
            counted_from_ns=first,
            counted_to_ns=last,
            quad=asked.quad,
            trace=asked.index,
            sizes=asked.sizes or self.trial.query_sizes,
            seconds=asked.seconds,
            asked=asked.count,
        )
        self._note_answers(side, segment, queries)
        return rows

    def ask(self, side: str, split: Split, queries: Queries, purpose: str, trace: int, seconds: float) -> SegmentRows:
        """Ask for given samples of a split, all queries of one size, one after another."""
        self.wake(side)
        segment = self.referee.run_closed(side, split, queries, 1, seconds)
        first, last = (int(segment.planned_ns[0]), int(segment.planned_ns[-1]) + 1) if len(segment) else (0, 0)
        rows = self._keep(
            segment,
            purpose=purpose,
            offered_qps=None,
            counted_from_ns=first,
            counted_to_ns=last,
            trace=trace,
            sizes=f"fixed:{int(queries.sizes[0])}",
            seconds=seconds,
            asked=len(queries),
        )
        if split is self.split:
            self._note_answers(side, segment, queries)
        return rows

    def take(self, segment: Segment, queries: Queries, stretch: Stretch, counted_ns: tuple[int, int]) -> None:
        """Keep a segment that was not offered by our own sender; queries planned in ``counted_ns`` count."""
        self._keep_open(segment, stretch, counted_ns)
        self._note_answers(segment.side, segment, queries)

    def _keep_open(self, segment: Segment, stretch: Stretch, counted_ns: tuple[int, int]) -> SegmentRows:
        return self._keep(
            segment,
            purpose=stretch.purpose,
            offered_qps=stretch.rate_qps,
            counted_from_ns=counted_ns[0],
            counted_to_ns=counted_ns[1],
            quad=stretch.quad,
            trace=stretch.index,
            sizes=self.trial.query_sizes,
            seconds=stretch.seconds,
            asked=len(segment),
        )

    def _keep(self, segment: Segment, **known: Any) -> SegmentRows:
        """Keep the raw columns of a segment; ``known``: fields of its SegmentInfo."""
        number = len(self.evidence.segments)
        info = SegmentInfo(side=segment.side, segment=number, aborted=segment.aborted, queries=0, late=0, **known)
        return self.evidence.add(segment, info, self.limit_ns)

    def _note_answers(self, side: str, segment: Segment, queries: Queries) -> None:
        """Also what is no answer: an error, too few scores or one that is no number. Late it is anyway; but a system
        that refuses the queries which cost it most would be held to none of them."""
        if side not in self.evidence.answers:
            return
        count = len(segment)
        heard = np.repeat(segment.answered | segment.refused, np.diff(queries.offsets[: count + 1]))
        samples = queries.samples[: queries.offsets[count]]
        self.evidence.answers[side].note(samples[heard], segment.scores[heard])
