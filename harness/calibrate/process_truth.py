"""The true LBT of a real process, measured between the quads by what it does with a queue that never empties.

With always some queries waiting, the gaps between answers are the worker's time per query, all overheads included. By
these gaps the queue is an M/G/1, whose LBT is exact. A host drifts by more than an estimate errs, so they are measured
again before every quad and after the last one, and how far the truth is known is told by how they differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate import mg1
from harness.measurement.bench import Bench, ClosedStretch
from harness.measurement.quads import abba_order
from harness.measurement.side import Side
from harness.trial import Sla

Array = npt.NDArray[Any]

TRUTH_S = 2.5
"""Planned seconds of one point of one side."""
_WAITING = 4
_GAPS, _IDLE_QUERIES = 400, 100
_RAMP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthPoint:
    """One process at one moment. gaps_ns: (n,) between its answers; idle_ns: median latency of a lone query."""

    gaps_ns: Array
    idle_ns: float


class TruthOfSides:
    """The points of every side, in order of time."""

    def __init__(self) -> None:
        self._points: dict[str, list[TruthPoint]] = {}

    def measure(self, bench: Bench, sides: list[Side], place: int) -> None:
        """Add a point to each side, the sides in the order of the quad at this place."""
        for side in dict.fromkeys(side.name for side, _ in abba_order(sides, place)):
            points = self._points.setdefault(side, [])
            idle_ns = _idle_ns(bench, side, len(points))
            points.append(TruthPoint(gaps_ns=_gaps(bench, side, len(points)), idle_ns=idle_ns))

    def of(self, side: str, sla: Sla) -> tuple[float, float]:
        """LBT of a side in queries per second, and the standard error of its log (``truth_of``)."""
        return truth_of(self._points[side], sla)


def truth_of(points: Sequence[TruthPoint], sla: Sla) -> tuple[float, float]:
    """LBT by all points together, and the standard error of its log by the jackknife over points: infinite where there
    is one alone, or some would have no LBT without the others."""
    truth, count = _pooled(points, sla), len(points)
    if count < 2:
        return truth, math.inf
    without = np.array([_pooled([*points[:i], *points[i + 1 :]], sla) for i in range(count)])
    return truth, float(np.std(np.log(without)) * math.sqrt(count - 1)) if without.all() else math.inf


def truth_qps(gaps_ns: Array, idle_ns: float, sla: Sla) -> float:
    """LBT of the M/G/1 queue whose service is any of these gaps; (n,). idle_ns: median latency of a lone query.

    What a lone query takes beyond the median gap is a delay that occupies no worker.
    """
    service = mg1.service_atoms(gaps_ns, np.full(gaps_ns.size, 1.0 / gaps_ns.size))
    delay_ns = max(idle_ns - float(np.median(gaps_ns)), 0.0)
    return mg1.lbt_qps(service, sla.limit_ms * 1e6 - delay_ns, sla.late_fraction)


def _pooled(points: Sequence[TruthPoint], sla: Sla) -> float:
    gaps = np.concatenate([point.gaps_ns for point in points])
    return truth_qps(gaps, float(np.mean([point.idle_ns for point in points])), sla)


def _gaps(bench: Bench, side: str, index: int) -> Array:
    """Time between answers while queries are always waiting; (n,) in ns. Answers seen at one moment share theirs."""
    asked = ClosedStretch(purpose="gaps", index=index, count=_GAPS, seconds=30.0, concurrency=_WAITING)
    rows = bench.closed_loop(side, asked)
    bench.observer.advance(TRUTH_S, side)
    done, together = np.unique(rows.columns["done_ns"][rows.answered].astype(np.float64), return_counts=True)
    return np.repeat(np.diff(done) / together[1:], together[1:])[_RAMP:-_WAITING]


def _idle_ns(bench: Bench, side: str, index: int) -> float:
    asked = ClosedStretch(purpose="idle", index=index, count=_IDLE_QUERIES, seconds=30.0)
    return float(np.median(bench.closed_loop(side, asked).service_ns))
