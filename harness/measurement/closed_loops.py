"""Asked one after the other, or many at once: every test sample, service times, offline and single stream."""

from __future__ import annotations

import numpy as np

from harness.measurement.bench import OFFLINE_IN_FLIGHT, Bench, ClosedStretch, Quad
from harness.measurement.evidence import Answers
from harness.measurement.side import Side
from harness.record.segments import of_purpose
from harness.record.service import MIX, ROUND, SERVICE_SIZES, service_counts, service_samples
from harness.traffic.arrivals import Queries, sweep

SERVICE_ROUNDS = 2
SERVICE_S = 30.0
SWEEP_QUERIES = 256
MOST_QUERIES = 4000
PAIRED_S = 0.3
PAIRED_LIMIT_S = 5.0
OUTSIDE = Quad(number=-1, place=-1)
"""Of a segment that belongs to no quad."""


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
            index=2 * quad.place + half,
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
        index=quad.place + 1,
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
        ClosedStretch(purpose="single_stream", index=quad.place + 1, count=count, seconds=seconds, quad=quad.number),
    )
