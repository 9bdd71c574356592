"""Raw query columns against their trial: the segments that must be there, and the published traces they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.comparison import MAX_VOID_SHARE
from harness.estimate.replay import THAW_NS
from harness.options import Budget
from harness.record.floor import NULL_PROBES
from harness.record.new_queries import KNOWN, NEW, ROUNDS, WARM_UP
from harness.record.segments import SegmentRows
from harness.record.service import MIX, ROUND, SERVICE_SIZES
from harness.traffic.published import HELD_OUT_PURPOSE, PublishedTrace, any_groups
from harness.traffic.segment import Status
from harness.trial import Trial

ROUNDING_NS = 1
"""Another processor's logarithm may round a planned moment to the next nanosecond."""
LEAST_SHARE = 0.5
"""A closed loop that did not ask all its queries must have lasted at least this share of its time."""
TELLING = 20
"""So many queries of mixed sizes tell the traces of two seeds apart."""
SINGLE_STREAM, OFFLINE, LOADGEN = "single_stream", "offline", "loadgen"

Columns = Mapping[str, npt.NDArray[Any]]


def trace_problems(trial: Trial, budget: Budget, rows: Sequence[SegmentRows], queries: Columns) -> list[str]:
    """Everything in the raw columns that cannot come from this trial, one sentence each. budget: the one it names."""
    if any(row.info.trace < 0 or row.info.seconds is None for row in rows):
        return [
            "result.json does not say which traces its segments ran: an earlier version wrote it, and nothing can be "
            "recomputed; measure again"
        ]
    found = [*_whole(rows, queries), *_complete(trial, budget, rows)]
    telling = [
        row
        for row in rows
        if len(row) >= TELLING
        and _sizes(trial, row) == trial.query_sizes
        and row.info.purpose not in (LOADGEN, HELD_OUT_PURPOSE)
    ]
    if telling and not any(_same_sizes(trial, row) for row in telling):
        return [*found, f"none of {len(telling)} segments ran the traces of seed {trial.seed}: the seed is wrong"]
    for row in rows:
        problem = next(_segment(trial, row), None)
        if problem:
            info = row.info
            found.append(f"segment {info.segment} ({info.side}, {info.purpose}): {problem}")
    return found


def _whole(rows: Sequence[SegmentRows], queries: Columns) -> Iterator[str]:
    """Every row belongs to one listed segment, and segments follow one another in time."""
    numbers = [row.info.segment for row in rows]
    if numbers != list(range(len(rows))):
        yield "result.json does not number its segments 0, 1, 2, ..."
    unlisted = np.setdiff1d(queries["segment"], numbers)
    if unlisted.size:
        yield f"queries.parquet holds segments that result.json does not list: {unlisted[:5].tolist()}"
    last = 0
    for row in rows:
        if len(row):
            if int(row.columns["planned_ns"][0]) < last:
                yield f"segment {row.info.segment} begins before the last query of the one before it was sent"
                return
            last = int(row.columns["sent_ns"].max())  # what was planned after an early end was never sent


def _complete(trial: Trial, budget: Budget, rows: Sequence[SegmentRows]) -> Iterator[str]:
    """No segment that the trial's budget asks for is missing, none is there twice."""
    quads = int(budget.quads)
    again = _repeated(rows, quads)
    if len(set(again.values())) < len(again) or len(again) > MAX_VOID_SHARE * quads:
        yield f"quads {sorted(again)} repeat quads {sorted(again.values())}: more than void quads allow"
    for row in rows:
        quad, halves = row.info.quad, 1 if row.info.purpose in (SINGLE_STREAM, OFFLINE) else 2
        runs = (row.info.trace - 1) if halves == 1 else row.info.trace // 2
        if quad >= 0 and runs != again.get(quad, quad):
            yield f"segment {row.info.segment} of quad {quad} ran a trace of quad {runs}"
    seen = Counter((row.info.side, row.info.purpose, row.info.trace) for row in rows)
    for (side, purpose, trace), count in seen.items():
        halves = 2 if purpose in (SINGLE_STREAM, OFFLINE) and trace else 1  # both halves of a quad ask the same
        quad = trace - 1 if purpose in (SINGLE_STREAM, OFFLINE) else trace // 2 if purpose in ("quad", "paired") else -1
        if count > halves * (2 if quad in again.values() else 1):
            yield f"{side}, {purpose}: trace {trace} is there {count} times"
    for side in ("baseline", "candidate") if trial.compares else ("baseline",):
        for purpose, wanted in {**_wanted(trial.scenario, quads), **_probed(rows)}.items():
            traces = {trace for owner, of, trace in seen if (owner, of) == (side, purpose)}
            if unasked := sorted(traces - wanted):
                yield f"{side}, {purpose}: nobody asks for segments of traces {unasked}"
            missing = sorted(wanted - traces)
            if missing and (traces or purpose != "quad"):
                yield f"{side}, {purpose}: the segments of traces {missing} are missing"
    missing = sorted({0, *(NULL_PROBES + index for index in range(quads + len(again) + 1))} - _floor_traces(rows))
    if missing:
        yield f"floor: the segments of traces {missing} are missing"


def _repeated(rows: Sequence[SegmentRows], quads: int) -> dict[int, int]:
    """By number of each quad beyond the budget's: the void quad whose traces it runs again."""
    return {
        row.info.quad: row.info.trace // 2 for row in rows if row.info.quad >= quads and row.info.purpose == "paired"
    }


def _floor_traces(rows: Sequence[SegmentRows]) -> set[int]:
    return {row.info.trace for row in rows if row.info.purpose == "floor"}


def _probed(rows: Sequence[SegmentRows]) -> dict[str, set[int]]:
    """Traces of new and known queries: of each side all, or of neither any (as in a record of an earlier version)."""
    if not any(row.info.purpose in (NEW, KNOWN) for row in rows):
        return {}
    return {NEW: set(range(ROUNDS)), KNOWN: {*range(ROUNDS), WARM_UP}}


def _wanted(scenario: str, quads: int) -> dict[str, set[int]]:
    """Traces by purpose that each side must have run. A side that meets the SLA at no rate has no ``quad`` at all."""
    halves = set(range(2 * quads))
    service = {ROUND * round_ + index for round_ in range(2) for index in (*SERVICE_SIZES, MIX)}
    always = {"service": service, "paired": halves, OFFLINE: {0}}
    by_quad = set(range(1, quads + 1))
    return {
        "server": {**always, "quad": halves, SINGLE_STREAM: {0}},
        SINGLE_STREAM: {**always, SINGLE_STREAM: by_quad},
        OFFLINE: {**always, OFFLINE: {0, *by_quad}},
        "mlperf_server": {**always, SINGLE_STREAM: by_quad, "latency": {0}, LOADGEN: {0}},
    }[scenario]


def _segment(trial: Trial, row: SegmentRows) -> Iterator[str]:
    """What is wrong with one segment, the plainest first."""
    info, columns = row.info, row.columns
    if info.sizes != (sizes := _sizes(trial, row)):
        yield f"query sizes are said to be {info.sizes!r}, the trial asks for {sizes!r}"
    if not (columns["side"] == info.side).all():
        yield f"{np.count_nonzero(columns['side'] != info.side)} of its queries belong to another side"
    if not _all_equal(columns["offered_qps"], np.nan if info.offered_qps is None else info.offered_qps):
        yield f"result.json says {info.offered_qps} queries/s were offered, queries.parquet says otherwise"
    if info.purpose != LOADGEN:  # LoadGen draws arrivals of its own
        yield from _against_trace(trial, row, sizes)
    if not _forward(row):
        yield "stamps run backwards: a query was sent before it was planned, or answered before it was sent"


def _against_trace(trial: Trial, row: SegmentRows, sizes: str) -> Iterator[str]:
    info, columns, count = row.info, row.columns, len(row)
    assert info.seconds is not None
    named = PublishedTrace(seed=trial.seed, purpose=info.purpose, index=info.trace, sizes=sizes)
    rate = info.offered_qps
    trace = named.first(info.asked, any_groups()) if rate is None else named.until(rate * info.seconds, any_groups())
    if len(trace) != info.asked:
        yield f"{info.asked} queries are said to have been asked, its trace from seed {trial.seed} has {len(trace)}"
    if count > len(trace) or (rate is not None and count != len(trace)):
        yield f"{count} queries, its trace from seed {trial.seed} has {len(trace)}: queries were dropped or added"
        return
    if not np.array_equal(columns["query_id"], np.arange(count)):
        yield "its queries are not numbered 0, 1, 2, ...: some were dropped, repeated or moved"
    if not np.array_equal(columns["size"], trace.sizes[:count]):
        yield f"its query sizes are not those of its trace from seed {trial.seed}"
    if rate is not None:
        start_ns = info.counted_from_ns - int(THAW_NS)
        beside = np.abs(columns["planned_ns"] - start_ns - trace.planned_ns(rate))
        if beside.max() > ROUNDING_NS or info.counted_to_ns != start_ns + int(info.seconds * 1e9):
            yield (
                f"{np.count_nonzero(beside > ROUNDING_NS)} planned times are not those of its trace from seed "
                f"{trial.seed} at {rate:g} queries/s"
            )
    elif count < info.asked and _span_s(row) < LEAST_SHARE * info.seconds:
        yield f"it ended after {count} of {info.asked} queries with time left: queries were dropped"


def _same_sizes(trial: Trial, row: SegmentRows) -> bool:
    named = PublishedTrace(seed=trial.seed, purpose=row.info.purpose, index=row.info.trace, sizes=_sizes(trial, row))
    return bool((named.first(TELLING, any_groups()).sizes == row.columns["size"][:TELLING]).all())


def _sizes(trial: Trial, row: SegmentRows) -> str:
    info = row.info
    if info.purpose in (NEW, KNOWN):
        return info.sizes  # whatever the groups of the data allow, the same on both sides
    if info.purpose == "service" and info.trace % ROUND in SERVICE_SIZES:
        return f"fixed:{info.trace % ROUND}"
    return f"fixed:{max(SERVICE_SIZES)}" if info.purpose == OFFLINE else trial.query_sizes


def _span_s(row: SegmentRows) -> float:
    ends = np.maximum(row.columns["done_ns"], row.columns["sent_ns"])
    return float(ends.max() - row.columns["planned_ns"][0]) / 1e9 if len(row) else 0.0


def _forward(row: SegmentRows) -> bool:
    """Planned, sent, done in this order, for what was sent and what was answered; arrivals ascend."""
    planned, sent, done = (row.columns[name] for name in ("planned_ns", "sent_ns", "done_ns"))
    was_sent = row.columns["status"] < Status.DROPPED
    ordered = (sent >= planned) & (~row.answered | (done >= sent))
    return bool(ordered[was_sent].all() and (np.diff(planned) >= 0).all())


def _all_equal(column: npt.NDArray[Any], value: float) -> bool:
    return bool(np.array_equal(column, np.full(len(column), value), equal_nan=True))
