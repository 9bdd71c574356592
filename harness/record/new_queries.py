"""What queries that nobody has asked before tell of a pair of sides. Pure functions of the raw columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.record.segments import SegmentRows, of_purpose

NEW, KNOWN = "new", "known"
"""Purposes of the segments: samples that were never asked for, and samples of the accuracy run."""
ROUNDS = 2
WARM_UP = ROUNDS
"""Number of the trace that is asked first and not counted."""


def gain_on(rows: Sequence[SegmentRows], purpose: str, sides: tuple[str, str]) -> float | None:
    """Service time of the first side over that of the second, on queries of ``purpose`` that both answered: geometric
    mean of the medians of the rounds. None where there are none."""
    found = {side: _by_trace(rows, purpose, side) for side in sides}
    logs = []
    for trace in range(ROUNDS):
        if not all(trace in by_trace for by_trace in found.values()):
            continue
        first, second = (found[side][trace] for side in sides)
        count = min(len(first), len(second))
        both = first.answered[:count] & second.answered[:count]
        if both.any():
            logs.append(float(np.median(np.log(first.service_ns[:count][both] / second.service_ns[:count][both]))))
    return math.exp(float(np.mean(logs))) if logs else None


def _by_trace(rows: Sequence[SegmentRows], purpose: str, side: str) -> Mapping[int, SegmentRows]:
    return {row.info.trace: row for row in of_purpose(rows, purpose, side)}
