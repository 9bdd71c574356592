"""One side of a trial under load: its service table, its twin, the search for its rate, the other scenarios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.estimate.lbt import LbtEstimate
from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.search import futility_limits, next_rate, quad_rates, time_shares
from harness.estimate.twin import ServiceTable
from harness.measurement.bench import OFFLINE_IN_FLIGHT, Bench, ClosedStretch, Quad, Stretch
from harness.measurement.evidence import Answers
from harness.options import Budget
from harness.record.segments import of_purpose
from harness.record.service import (
    MIX,
    ROUND,
    SERVICE_SIZES,
    ServiceSamples,
    queue_twin,
    service_counts,
    service_samples,
)
from harness.record.side_numbers import lbt_of
from harness.sut.process import SideInfo
from harness.traffic.arrivals import Queries, sweep
from harness.trial import Sla
from optimizations.contract import Dispatch

SERVICE_ROUNDS = 2
SERVICE_S = 30.0
LARGEST_STEP = 1.3
SWEEP_QUERIES = 256
MOST_QUERIES = 4000
PAIRED_S = 0.3
PAIRED_LIMIT_S = 5.0
BELIEVED_QUADS = 2
"""From so many on, the estimate so far says where the next rates lie."""
OUTSIDE = Quad(number=-1, traces=-1)
"""Of a segment that belongs to no quad."""
Float64 = npt.NDArray[np.float64]


class Asked(Protocol):
    """What the search needs to know of a trial."""

    @property
    def sla(self) -> Sla: ...
    @property
    def query_sizes(self) -> str: ...


class Load(Protocol):
    """Whatever offers open-loop load to a side: the bench, or a simulation of it."""

    @property
    def trial(self) -> Asked: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def limit_ns(self) -> int: ...
    def open_loop(self, side: str, stretch: Stretch) -> SegmentObservation:
        """Offer one stretch of Poisson arrivals to the side of this name."""


@dataclass(slots=True, kw_only=True)
class Side:
    """State of one side. ``centre_qps`` is where its refined segments lie; 0 when no rate meets the SLA.

    ``time_factor``: how long its refined segments are, in those of the budget; both sides' add up to 2.
    """

    name: str
    info: SideInfo
    workers: int
    dispatch: Dispatch
    service: ServiceSamples | None = None
    table: ServiceTable | None = None
    centre_qps: float = 0.0
    rates_qps: tuple[float, float] = (0.0, 0.0)
    time_factor: float = 1.0
    probes: list[SegmentObservation] = field(default_factory=list)
    refined: list[SegmentObservation] = field(default_factory=list)
    _twin: QueueTwin | None = None
    _estimates: dict[tuple[int, frozenset[int] | None], LbtEstimate | None] = field(default_factory=dict)

    def twin(self, bench: Load) -> QueueTwin:
        """The queueing twin of this side under the trial's mix of sizes; one object, since it keeps its long run."""
        if self._twin is None:
            assert self.table is not None
            self._twin = queue_twin(self.table, bench.trial.query_sizes, self.workers, self.dispatch)
        return self._twin

    def estimate(self, bench: Load, quads: set[int] | None = None) -> LbtEstimate | None:
        """LBT from the refined segments of ``quads`` (None: all); None when no rate meets the SLA or too few ran."""
        asked = len(self.refined), None if quads is None else frozenset(quads)
        if asked not in self._estimates:
            self._estimates[asked] = lbt_of(self.probes, self.refined, self.twin(bench), bench.trial.sla, quads)
        return self._estimates[asked]


def accuracy_run(bench: Bench, side: Side) -> None:
    """Ask every test sample once; the answers are what AUC and the gate are computed from."""
    bench.wake(side.name)
    queries = sweep(bench.split, max(SERVICE_SIZES))
    scores = np.full(len(bench.split), np.nan, np.float32)
    for first in range(0, len(queries), SWEEP_QUERIES):
        part = _part(queries, first, first + SWEEP_QUERIES)
        segment = bench.referee.run_closed(side.name, bench.split, part, side.workers + 1)
        scores[part.samples[: len(segment.scores)]] = segment.scores
        bench.observer.advance(len(part.samples), side.name)
    bench.evidence.answers[side.name] = Answers.of(scores)


def _part(queries: Queries, first: int, last: int) -> Queries:
    """Queries [first, last): what lies in the arena at one time is bounded, however long the test split is."""
    offsets = queries.offsets[first : last + 1]
    samples = queries.samples[offsets[0] : offsets[-1]]
    return Queries(queries.query_id[first:last], samples, offsets - offsets[0])


def service_table(bench: Bench, sides: list[Side]) -> None:
    """Closed-loop service times of each side: the sizes that are reported, then the mix that the twin needs.

    Sides take turns, so that a drifting host moves both.
    """
    repeats = bench.budget.service_repeats
    counts = service_counts(repeats)
    fixed = {size: (f"fixed:{size}", max(2, counts[size] // SERVICE_ROUNDS)) for size in SERVICE_SIZES}
    for round_ in range(SERVICE_ROUNDS):
        for side in sides:
            for index, (sizes, count) in {**fixed, MIX: ("", 2 * repeats)}.items():
                trace = ROUND * round_ + index
                bench.closed_loop(
                    side.name,
                    ClosedStretch(purpose="service", index=trace, count=count, seconds=SERVICE_S, sizes=sizes),
                )
            bench.observer.advance(1.0, side.name)
    for side in sides:
        side.service = service_samples(of_purpose(bench.evidence.rows, "service", side.name))
        side.table = side.service.table()


def search_rate(bench: Load, side: Side) -> None:
    """Coarse probes until the crossing is near; sets ``centre_qps``."""
    twin, sla = side.twin(bench), bench.trial.sla
    for index in range(bench.budget.search_probes + 1):
        decision = next_rate(side.probes, twin, sla)
        if decision.action == "stop":
            return
        side.centre_qps = decision.rate_qps
        if decision.action == "refine" or index == bench.budget.search_probes:
            break
        seconds = bench.budget.settle_s + bench.budget.search_s
        limits = futility_limits(twin, sla, int(decision.rate_qps * seconds))
        stretch = Stretch(
            purpose="search",
            index=index,
            rate_qps=decision.rate_qps,
            seconds=seconds,
            max_late=limits.late_queries,
            max_age_ns=limits.oldest_ns,
        )
        side.probes.append(bench.open_loop(side.name, stretch))


def prepare_quad(bench: Load, sides: Sequence[Side], quad: Quad) -> None:
    """Choose the rates of the next quad, and once, at half time, how long each side's segments are (R9)."""
    loaded = [side for side in sides if side.centre_qps > 0.0]
    if len(loaded) == 2 and 0 < quad.number == bench.budget.quads // 2:
        shares = time_shares(_log_spread(bench, loaded[0]), _log_spread(bench, loaded[1]))
        for side, share in zip(loaded, shares, strict=True):
            side.time_factor = 2.0 * share
    for side in loaded:
        _aim(bench, side)


def _log_spread(bench: Load, side: Side) -> float:
    """Width of the log interval of the LBT so far; inf where it has none."""
    estimate = side.estimate(bench)
    return math.log(estimate.ci[1] / estimate.ci[0]) if estimate and estimate.ci and estimate.ci[0] > 0.0 else math.inf


def _aim(bench: Load, side: Side) -> None:
    """Choose the two rates of the next quad; the middle moves at most one step of 30 %."""
    done, estimate = [*side.probes, *side.refined], None
    if len({segment.quad for segment in side.refined}) >= BELIEVED_QUADS:
        estimate = side.estimate(bench)
    rates = quad_rates(done, side.twin(bench), bench.trial.sla, side.centre_qps, estimate)
    middle = math.sqrt(rates[0] * rates[1])
    moved = min(max(middle, side.centre_qps / LARGEST_STEP), side.centre_qps * LARGEST_STEP)
    side.rates_qps = (rates[0] * moved / middle, rates[1] * moved / middle)
    side.centre_qps = moved


def refine(bench: Load, side: Side, quad: Quad, half: int) -> None:
    """One refined segment of a quad. ``half`` 0 or 1 says which of the two traces and rates of the quad it runs."""
    seconds = bench.budget.settle_s + side.time_factor * bench.budget.segment_s
    # Only a runaway is cut short: dropping merely busy segments would overstate the LBT.
    runaway_ns = max(50 * bench.limit_ns, 5_000_000_000)
    stretch = Stretch(
        purpose="quad",
        index=2 * quad.traces + half,
        rate_qps=side.rates_qps[half],
        seconds=seconds,
        quad=quad.number,
        max_age_ns=runaway_ns,
    )
    side.refined.append(bench.open_loop(side.name, stretch))


def paired_count(bench: Bench, slowest: Side) -> int:
    """How many queries of the mix fill ``PAIRED_S`` on the slower side."""
    return int(np.clip(PAIRED_S * 1e9 / slowest.twin(bench).service.mean_ns, 10, 200))


def _enough(seconds: float, service_ns: float) -> int:
    """Queries that outlast ``seconds`` at a service time that is surely too short; bounded for the arena's sake."""
    return int(np.clip(seconds * 1e9 / service_ns, 64, MOST_QUERIES))


def paired_service(bench: Bench, side: Side, quad: Quad, half: int, count: int) -> None:
    """The same queries on both sides of a quad, one by one; it also warms a side that was just thawed."""
    bench.closed_loop(
        side.name,
        ClosedStretch(
            purpose="paired",
            index=2 * quad.traces + half,
            count=count,
            seconds=PAIRED_LIMIT_S,
            quad=quad.number,
        ),
    )


def offline(bench: Bench, side: Side, quad: Quad = OUTSIDE) -> None:
    """Many queries of 100 samples waiting."""
    assert side.service is not None
    size, seconds = max(SERVICE_SIZES), bench.budget.offline_s
    asked = ClosedStretch(
        purpose="offline",
        index=quad.traces + 1,
        count=_enough(seconds * side.workers, float(np.median(side.service.by_size[size])) / 2.0),
        seconds=seconds,
        sizes=f"fixed:{size}",
        quad=quad.number,
        concurrency=OFFLINE_IN_FLIGHT,
    )
    bench.closed_loop(side.name, asked)


def single_stream(bench: Bench, side: Side, quad: Quad = OUTSIDE) -> None:
    """A client that waits for each answer."""
    seconds = bench.budget.single_stream_s
    count = _enough(seconds, side.twin(bench).service.mean_ns / 1.5)
    bench.closed_loop(
        side.name,
        ClosedStretch(purpose="single_stream", index=quad.traces + 1, count=count, seconds=seconds, quad=quad.number),
    )
