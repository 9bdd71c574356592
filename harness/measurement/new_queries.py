"""Queries whose samples nobody has asked for, beside known ones: a system that remembers answers gains on these alone.

The accuracy run asks for every test sample, and timed queries for the same samples again. So after the quads each side
is asked, one by one, for samples of the validation split, and as often for test samples, all queries of one size. What
a query costs by its content cancels in the pair of sides.
"""

from __future__ import annotations

import numpy as np

from harness.measurement.bench import Bench
from harness.measurement.side import Side
from harness.record.new_queries import KNOWN, NEW, ROUNDS, WARM_UP
from harness.traffic.arrivals import Queries
from zoo.schema import Int64, Split

LARGEST_SIZE = 32
SEGMENT_S = 0.2
"""What a segment takes on the slower side, about."""
SEGMENT_LIMIT_S = 5.0
FEWEST, MOST = 8, 100
"""Queries of a segment."""
ORDER = (
    (KNOWN, WARM_UP),
    *((purpose, trace) for trace in range(ROUNDS) for purpose in ((NEW, KNOWN) if trace % 2 == 0 else (KNOWN, NEW))),
)
"""Purpose and trace of each segment. The first warms a side that was just thawed; in the others drifts cancel."""


def ask_new_and_known(bench: Bench, sides: list[Side]) -> None:
    """Ask both sides for the same new and known queries; nothing where a side is alone, or the splits are too small."""
    if len(sides) < 2 or bench.unseen is None:
        return
    splits = {NEW: bench.unseen, KNOWN: bench.split}
    size = min(LARGEST_SIZE, *(int(np.median(np.diff(split.groups))) for split in splits.values()))
    starts = {purpose: _groups(split, size) for purpose, split in splits.items()}
    count = min(_queries(sides), *(len(found) // ROUNDS for found in starts.values()))
    if count < FEWEST:
        return
    bench.observer.stage("queries that nobody has asked", total=len(sides) * len(ORDER), unit="")
    for side in sides:
        for purpose, trace in ORDER:
            first = 0 if trace == WARM_UP else trace * count
            asked = _first_samples(starts[purpose][first : first + count], size)
            bench.ask(side.name, splits[purpose], asked, purpose, trace, SEGMENT_LIMIT_S)
            bench.observer.advance(1.0, side.name)


def _queries(sides: list[Side]) -> int:
    """How many fill a segment, by the service times of the slower side."""
    slowest_ns = max(float(np.median(s.service.by_size[LARGEST_SIZE])) for s in sides if s.service is not None)
    return int(np.clip(SEGMENT_S * 1e9 / slowest_ns, FEWEST, MOST))


def _groups(split: Split, size: int) -> Int64:
    """First sample of each group that has so many."""
    return np.asarray(split.groups[:-1][np.diff(split.groups) >= size])


def _first_samples(starts: Int64, size: int) -> Queries:
    """A query for the first ``size`` samples of each group."""
    offsets = np.arange(len(starts) + 1, dtype=np.int64) * size
    samples = np.repeat(starts, size) + np.tile(np.arange(size), len(starts))
    return Queries(np.arange(len(starts), dtype=np.int64), samples.astype(np.int64), offsets)
