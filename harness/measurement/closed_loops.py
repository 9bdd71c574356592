"""Asked one after the other, or many at once: every test sample, service times, offline and single stream."""

from __future__ import annotations

import numpy as np

from harness.measurement.bench import OFFLINE_IN_FLIGHT, Bench, ClosedStretch, Quad
from harness.measurement.evidence import Answers
from harness.measurement.side import Side
from harness.record.segments import of_purpose
from harness.record.service import (
    MIX,
    PAIRED_LIMIT_S,
    ROUND,
    ROUNDS,
    SERVICE_S,
    SERVICE_SIZES,
    offline_queries,
    paired_queries,
    service_queries,
    service_samples,
    single_stream_queries,
)
from harness.traffic.arrivals import Queries, sweep

SWEEP_QUERIES = 256
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
    counts = service_queries(bench.budget.service_repeats)
    for round_ in range(ROUNDS):
        for side in sides:
            for index, count in counts.items():
                trace, sizes = ROUND * round_ + index, "" if index == MIX else f"fixed:{index}"
                bench.closed_loop(
                    side.name,
                    ClosedStretch(purpose="service", index=trace, count=count, seconds=SERVICE_S, sizes=sizes),
                )
            bench.observer.advance(1.0, side.name)
    for side in sides:
        side.service = service_samples(of_purpose(bench.evidence.rows, "service", side.name))
        side.table = side.service.table()


def paired_count(bench: Bench, sides: list[Side]) -> int:
    """How many queries of the mix fill ``PAIRED_S`` on the slower side."""
    return min(paired_queries(side.twin(bench).service.mean_ns) for side in sides)


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
        count=offline_queries(seconds, side.workers, side.service.by_size[size]),
        seconds=seconds,
        sizes=f"fixed:{size}",
        quad=quad.number,
        concurrency=OFFLINE_IN_FLIGHT,
    )
    bench.closed_loop(side.name, asked)


def single_stream(bench: Bench, side: Side, quad: Quad = OUTSIDE) -> None:
    """A client that waits for each answer."""
    seconds = bench.budget.single_stream_s
    count = single_stream_queries(seconds, side.twin(bench).service.mean_ns)
    bench.closed_loop(
        side.name,
        ClosedStretch(purpose="single_stream", index=quad.place + 1, count=count, seconds=seconds, quad=quad.number),
    )
