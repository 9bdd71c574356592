"""How long a record's segments lasted and how much they asked, against what the trial's budget says.

A segment's own description says both, and whoever forges a record writes it: cut before its slowest query and described
as shorter, a segment would agree with itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from harness.errors import ConfigurationError
from harness.estimate.search import SHARES
from harness.measurement.new_queries import FEWEST, MOST, SEGMENT_LIMIT_S
from harness.options import Budget, budget_named
from harness.record.floor import PROBE_S, floor_s
from harness.record.new_queries import KNOWN, NEW
from harness.record.result import SegmentInfo
from harness.record.segments import SegmentRows, of_purpose
from harness.record.service import (
    PAIRED_LIMIT_S,
    ROUND,
    SERVICE_S,
    SERVICE_SIZES,
    offline_queries,
    paired_queries,
    queue_twin,
    service_queries,
    service_samples,
    single_stream_queries,
)
from harness.record.side_result import SideResult
from harness.traffic.published import HELD_OUT_PURPOSE
from harness.trial import Trial

ROUNDING = 1
"""Another processor's logarithms may move a count that follows from service times by a query."""


def budget_of(name: str) -> Budget:
    """The budget that a trial names ("quick", "quick,quads=8"). ConfigurationError for one that does not exist."""
    base, *changes = name.split(",")
    try:
        return budget_named(base, {key: float(value) for key, value in (change.split("=") for change in changes)})
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"trial.budget {name!r} is not a budget") from error


def amount_problems(
    trial: Trial, budget: Budget, rows: Sequence[SegmentRows], facts: Mapping[str, SideResult]
) -> list[str]:
    """Every segment that is shorter or longer than the budget says, or asked fewer or more, one sentence each.

    facts: by side; of them the workers are read.
    """
    return [*_open(budget, rows), *_quads(budget, rows), *_closed(trial, budget, rows, facts), *_new_and_known(rows)]


def _open(budget: Budget, rows: Sequence[SegmentRows]) -> Iterator[str]:
    loaded = {"search": budget.search_s, "latency": budget.latency_s, HELD_OUT_PURPOSE: budget.certificate_s}
    for info in (row.info for row in rows):
        seconds = loaded.get(info.purpose, math.nan) + budget.settle_s
        if info.purpose == "floor":
            seconds = PROBE_S if info.trace else floor_s(budget)
        if not math.isnan(seconds) and not math.isclose(info.seconds or 0.0, seconds):
            yield f"{info.side}, {info.purpose}: trace {info.trace} did not last as long as budget={budget.name} says"


def _quads(budget: Budget, rows: Sequence[SegmentRows]) -> Iterator[str]:
    """In quads, what one side has more the other one has less."""
    quads: dict[tuple[int, int], list[float]] = {}
    for info in (row.info for row in of_purpose(rows, "quad")):
        loaded = (info.seconds or 0.0) - budget.settle_s
        quads.setdefault((info.quad, info.trace), []).append(loaded / budget.segment_s)
    for (quad, trace), factors in quads.items():
        least, most = (2.0 * share for share in SHARES) if len(factors) == 2 else (1.0, 1.0)
        whole = math.isclose(sum(factors), len(factors))
        if not whole or min(factors) < least - 1e-9 or max(factors) > most + 1e-9:
            yield f"quad {quad}: its segments of trace {trace} did not last as long as budget={budget.name} says"


def _closed(
    trial: Trial, budget: Budget, rows: Sequence[SegmentRows], facts: Mapping[str, SideResult]
) -> Iterator[str]:
    """Closed loops: the service table's queries by the budget, and of the others as many as the table asks for."""
    by_trace = service_queries(budget.service_repeats)
    samples = {side: service_samples(of_purpose(rows, "service", side)) for side in facts}
    mean_ns = {
        side: queue_twin(found.table(), trial.query_sizes, 1, facts[side].dispatch).service.mean_ns
        for side, found in samples.items()
    }
    paired = min(map(paired_queries, mean_ns.values()))
    for info in (row.info for row in rows if row.info.side in facts):
        side = info.side
        if info.purpose == "service":
            yield from _amount(info, SERVICE_S, by_trace.get(info.trace % ROUND, 0), budget, exactly=True)
        elif info.purpose == "paired":
            yield from _amount(info, PAIRED_LIMIT_S, paired, budget)
        elif info.purpose == "single_stream":
            seconds = budget.single_stream_s
            yield from _amount(info, seconds, single_stream_queries(seconds, mean_ns[side]), budget)
        elif info.purpose == "offline":
            seconds, largest = budget.offline_s, samples[side].by_size[max(SERVICE_SIZES)]
            yield from _amount(info, seconds, offline_queries(seconds, facts[side].workers, largest), budget)


def _amount(info: SegmentInfo, seconds: float, asked: int, budget: Budget, exactly: bool = False) -> Iterator[str]:
    named = f"{info.side}, {info.purpose}: trace {info.trace}"
    if not math.isclose(info.seconds or 0.0, seconds):
        yield f"{named} had {info.seconds} s of time, budget={budget.name} gives it {seconds:g}"
    if abs(info.asked - asked) > (0 if exactly else ROUNDING):
        yield f"{named} asked {info.asked} queries, budget={budget.name} asks {asked}: queries were dropped or added"


def _new_and_known(rows: Sequence[SegmentRows]) -> Iterator[str]:
    """All segments of both sides alike; how many there are is for the groups of the data to say."""
    infos = [row.info for row in rows if row.info.purpose in (NEW, KNOWN)]
    if len({(info.asked, info.sizes) for info in infos}) > 1:
        yield "segments of new and known queries asked unequally many"
    for info in infos:
        if not FEWEST <= info.asked <= MOST or info.seconds != SEGMENT_LIMIT_S:
            yield f"{info.side}, {info.purpose}: trace {info.trace} asked {info.asked} queries in {info.seconds} s"
