"""What queries that nobody has asked before tell of a pair of sides. Pure functions of the raw columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.record.segments import SegmentRows, of_purpose

NEW, KNOWN = "new", "known"
"""Purposes of the segments: samples that were never asked for, and samples of the accuracy run."""
ROUNDS = 4
WARM_UP = ROUNDS
"""Number of the trace that is asked first and not counted."""


def gains_on(rows: Sequence[SegmentRows], purpose: str, sides: tuple[str, str]) -> tuple[float, ...]:
    """Of each round, the median over queries of ``purpose`` that both sides answered of the first side's service time
    over that of the second. Empty where not every round has one."""
    found = {side: _by_trace(rows, purpose, side) for side in sides}
    gains = []
    for trace in range(ROUNDS):
        if not all(trace in by_trace for by_trace in found.values()):
            return ()
        first, second = (found[side][trace] for side in sides)
        count = min(len(first), len(second))
        both = first.answered[:count] & second.answered[:count]
        if not both.any():
            return ()
        gains.append(float(np.exp(np.median(np.log(first.service_ns[:count][both] / second.service_ns[:count][both])))))
    return tuple(gains)


def mean_gain(gains: Sequence[float]) -> float | None:
    """Geometric mean over the rounds; None without any."""
    return math.exp(float(np.mean(np.log(gains)))) if gains else None


def _by_trace(rows: Sequence[SegmentRows], purpose: str, side: str) -> Mapping[int, SegmentRows]:
    return {row.info.trace: row for row in of_purpose(rows, purpose, side)}
