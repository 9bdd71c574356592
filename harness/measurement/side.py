"""One side of a trial under load: its service table, its twin, the search for its rate, its reported latencies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.estimate.lbt import LbtEstimate, estimate_lbt
from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.search import futility_limits, next_rate, quad_rates
from harness.estimate.stats import percentile
from harness.estimate.twin import ServiceTable, fit_service_table
from harness.measurement.bench import OFFLINE_IN_FLIGHT, Bench, Stretch
from harness.measurement.evidence import Answers
from harness.options import Budget
from harness.record.result import ServiceTimes, SingleStream
from harness.sut.process import SideInfo
from harness.traffic.arrivals import Queries, sweep
from harness.traffic.query_sizes import pmf
from harness.traffic.segment import Segment
from harness.trial import Sla
from optimizations.contract import Dispatch

SERVICE_SIZES = (1, 10, 32, 100)
LARGEST_STEP = 1.3
SWEEP_QUERIES = 256
MOST_QUERIES = 4000
PAIRED_S = 0.3
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
    """State of one side. ``centre_qps`` is where its refined segments lie; 0 when no rate meets the SLA."""

    name: str
    info: SideInfo
    workers: int
    dispatch: Dispatch
    service: dict[int, Float64] = field(default_factory=dict)
    table: ServiceTable | None = None
    centre_qps: float = 0.0
    rates_qps: tuple[float, float] = (0.0, 0.0)
    probes: list[SegmentObservation] = field(default_factory=list)
    refined: list[SegmentObservation] = field(default_factory=list)
    paired_service_ns: dict[int, Float64] = field(default_factory=dict)
    _twin: QueueTwin | None = None

    def twin(self, bench: Load) -> QueueTwin:
        """The queueing twin of this side under the trial's mix of sizes; one object, since it keeps its long run."""
        if self._twin is None:
            assert self.table is not None
            table = pmf(bench.trial.query_sizes)
            sizes = np.flatnonzero(table)
            self._twin = QueueTwin(
                table=self.table,
                sizes=sizes,
                probability=table[sizes],
                workers=self.workers,
                dispatch=self.dispatch,
            )
        return self._twin

    def estimate(self, bench: Load, quads: set[int] | None = None) -> LbtEstimate | None:
        """LBT from the refined segments of ``quads`` (None: all); None when no rate meets the SLA or too few ran."""
        used = [s for s in self.refined if not s.aborted and (quads is None or s.quad in quads)]
        if len(used) < 2:
            return None
        rates = [s.offered_qps for s in (*self.probes, *self.refined)]
        return estimate_lbt(used, self.twin(bench), bench.trial.sla, (min(rates), max(rates)))


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
    mixed: dict[str, list[Segment]] = {side.name: [] for side in sides}
    for round_ in range(2):
        for side in sides:
            for size in SERVICE_SIZES:
                segment = _ask_fixed(bench, side, size, repeats // 2, round_)
                known = side.service.get(size, np.zeros(0))
                side.service[size] = np.concatenate([known, _service_ns(segment)])
            queries = bench.trace("service", 100 + round_, 2 * repeats).queries(bench.split.groups)
            mixed[side.name].append(bench.closed_loop(side.name, queries, _stretch("service", 30.0)))
            bench.observer.advance(1.0, side.name)
    for side in sides:
        parts = mixed[side.name]
        sizes = [part.size[part.answered] for part in parts]
        sizes += [np.full(len(times), size) for size, times in side.service.items()]
        times = [_service_ns(part) for part in parts] + list(side.service.values())
        side.table = fit_service_table(np.concatenate(sizes), np.concatenate(times))


def _ask_fixed(bench: Bench, side: Side, size: int, count: int, round_: int) -> Segment:
    queries = bench.trace("service", 1000 * round_ + size, max(2, count), f"fixed:{size}").queries(bench.split.groups)
    return bench.closed_loop(side.name, queries, _stretch("service", 30.0))


def _service_ns(segment: Segment) -> Float64:
    answered = segment.answered
    return (segment.done_ns - segment.sent_ns)[answered].astype(np.float64)


def _stretch(purpose: str, seconds: float, quad: int = -1) -> Stretch:
    return Stretch(purpose=purpose, index=0, rate_qps=float("nan"), seconds=seconds, quad=quad)


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


def aim(bench: Load, side: Side) -> None:
    """Choose the two rates of the next quad; the middle moves at most one step of 30 %."""
    rates = quad_rates([*side.probes, *side.refined], side.twin(bench), bench.trial.sla, side.centre_qps)
    middle = math.sqrt(rates[0] * rates[1])
    moved = min(max(middle, side.centre_qps / LARGEST_STEP), side.centre_qps * LARGEST_STEP)
    side.rates_qps = (rates[0] * moved / middle, rates[1] * moved / middle)
    side.centre_qps = moved


def refine(bench: Load, side: Side, quad: int, half: int) -> None:
    """One refined segment of a quad. ``half`` 0 or 1 says which of the two traces and rates of the quad it runs."""
    turn = 2 * quad + half
    seconds = bench.budget.settle_s + bench.budget.segment_s
    # Only a runaway is cut short: dropping merely busy segments would overstate the LBT.
    runaway_ns = max(50 * bench.limit_ns, 5_000_000_000)
    stretch = Stretch(
        purpose="quad",
        index=turn,
        rate_qps=side.rates_qps[half],
        seconds=seconds,
        quad=quad,
        max_age_ns=runaway_ns,
    )
    side.refined.append(bench.open_loop(side.name, stretch))


def paired_count(bench: Bench, slowest: Side) -> int:
    """How many queries of the mix fill ``PAIRED_S`` on the slower side."""
    return int(np.clip(PAIRED_S * 1e9 / slowest.twin(bench).service.mean_ns, 10, 200))


def _enough(seconds: float, service_ns: float) -> int:
    """Queries that outlast ``seconds`` at a service time that is surely too short; bounded for the arena's sake."""
    return int(np.clip(seconds * 1e9 / service_ns, 64, MOST_QUERIES))


def paired_service(bench: Bench, side: Side, quad: int, half: int, count: int) -> None:
    """Service times of the same queries on both sides of a quad; it also warms a side that was just thawed."""
    queries = bench.trace("paired", 2 * quad + half, count).queries(bench.split.groups)
    segment = bench.closed_loop(side.name, queries, _stretch("paired", 5.0, quad))
    times = np.full(count, np.nan)
    times[: len(segment)] = np.where(segment.answered, segment.done_ns - segment.sent_ns, np.nan)
    known = side.paired_service_ns.get(quad, np.zeros(0))
    side.paired_service_ns[quad] = np.concatenate([known, times])


def offline_samples_per_s(bench: Bench, side: Side, quad: int = -1) -> float | None:
    """Samples per second with many queries of 100 samples waiting."""
    size, seconds = max(SERVICE_SIZES), bench.budget.offline_s
    count = _enough(seconds * side.workers, float(np.median(side.service[size])) / 2.0)
    queries = bench.trace("offline", quad + 1, count, f"fixed:{size}").queries(bench.split.groups)
    stretch = _stretch("offline", seconds, quad)
    segment = bench.closed_loop(side.name, queries, stretch, OFFLINE_IN_FLIGHT)
    answered = segment.answered
    if not answered.any():
        return None
    span_ns = int(segment.done_ns[answered].max() - segment.sent_ns[answered].min())
    return float(segment.size[answered].sum() / (span_ns / 1e9))


def single_stream(bench: Bench, side: Side, quad: int = -1) -> SingleStream:
    """Latency of a client that waits for each answer."""
    assert side.table is not None
    seconds = bench.budget.single_stream_s
    count = _enough(seconds, side.twin(bench).service.mean_ns / 1.5)
    queries = bench.trace("single_stream", quad + 1, count).queries(bench.split.groups)
    segment = bench.closed_loop(side.name, queries, _stretch("single_stream", seconds, quad))
    times = np.where(segment.answered, segment.done_ns - segment.sent_ns, np.inf)
    p50, p99 = percentile(times, 0.50), percentile(times, 0.99)
    return SingleStream(p50=_ms(p50), p99=_ms(p99), queries=len(times))


def slack(bench: Bench, side: Side) -> float | None:
    """SLA limit over the p99 service time of a 100-sample query (the largest one seen below 100 repeats)."""
    times = side.service.get(max(SERVICE_SIZES))
    if times is None or not len(times):
        return None
    return float(bench.limit_ns / np.quantile(times, 0.99, method="higher"))


def service_times(side: Side) -> ServiceTimes:
    """Median service time by size."""
    medians = [
        float(np.median(side.service[size])) / 1e6 if len(side.service.get(size, ())) else None
        for size in SERVICE_SIZES
    ]
    return ServiceTimes(n1=medians[0], n10=medians[1], n32=medians[2], n100=medians[3])


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None or not np.isfinite(value_ns) else value_ns / 1e6
