"""The twin on the very traces that the SUT got, its service scaled by any factor. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.longrun import QueueTwin
from harness.mg1 import NS

Array = npt.NDArray[Any]

SMOOTHING = 0.25
"""Half width, in log latency, of the ramp that stands for the step at the limit while twin and SUT are matched."""
THAW_NS = NS
"""Queries planned in the first second of a segment load the queue, in SUT and twin alike, and are not counted."""
_SIMULATED_QUERIES = 200_000
_COPIES, _DISPATCH_COPIES = 8, 2
_BLOCKS = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentObservation:
    """What one side did with one segment of the open loop.

    offered_qps: the rate to which the unit-rate trace ``trace_id`` was scaled; ``quad``: the ABBA quad it belongs to.
    planned_ns (from the segment's start), sizes, latency_ns (inf for a query without a good answer): (n,) float64 or
    int64, in order of arrival. aborted: stopped by the futility rule; such a segment steers the search only.
    """

    offered_qps: float
    trace_id: str
    quad: int
    planned_ns: Array
    sizes: Array
    latency_ns: Array
    duration_s: float
    aborted: bool = False

    @property
    def counted(self) -> Array:
        """Which queries count: those planned after the first second."""
        return np.asarray(self.planned_ns >= THAW_NS)


def lateness(latency_ns: Array, limit_ns: float) -> Array:
    """Smoothed lateness in [0, 1]: 0 below limit * e^-h, 1 above limit * e^h, linear in log latency between."""
    position = np.log(np.asarray(latency_ns, dtype=np.float64) / limit_ns) / (2.0 * SMOOTHING) + 0.5
    smoothed: Array = np.clip(position, 0.0, 1.0)
    return smoothed


class Replay:
    """Smoothed lateness of twin and SUT on the same segments, for any scale of the twin's service."""

    def __init__(
        self, segments: Sequence[SegmentObservation], twin: QueueTwin, limit_ns: float, copies: int = _COPIES
    ) -> None:
        self._segments, self._twin, self._limit_ns = segments, twin, limit_ns
        queries = sum(s.planned_ns.size for s in segments)
        most = copies if twin.plain else min(copies, _DISPATCH_COPIES)
        copies = int(np.clip(_SIMULATED_QUERIES // max(queries, 1), 1, most)) if twin.table.log_sd > 0.0 else 1
        self._noise = [twin.table.draw((copies, s.planned_ns.size), seed) for seed, s in enumerate(segments)]
        self._known: dict[float, Array] = {}
        numbers, self.quads = np.unique([s.quad for s in segments], return_inverse=True)
        self.quad_numbers = tuple(int(number) for number in numbers)
        self.rates = np.array([s.offered_qps for s in segments])
        self.counted = np.array([int(s.counted.sum()) for s in segments])
        self.real = np.array([self.real_query(i).sum() for i in range(len(segments))])

    def real_query(self, index: int) -> Array:
        """Smoothed lateness of each counted query of a segment, as observed."""
        s = self._segments[index]
        return lateness(s.latency_ns[s.counted], self._limit_ns)

    def twin_query(self, index: int, log_scale: float) -> Array:
        """The same, expected by the twin over its service noise."""
        s = self._segments[index]
        latency = self._twin.latency(s.planned_ns, s.sizes, self._noise[index] * math.exp(log_scale))
        mean: Array = lateness(latency[:, s.counted], self._limit_ns).mean(axis=0)
        return mean

    def twin(self, log_scale: float) -> Array:
        """Twin's lateness summed by segment; (segments,)."""
        if log_scale not in self._known:
            totals = [self.twin_query(i, log_scale).sum() for i in range(len(self._segments))]
            self._known[log_scale] = np.array(totals)
        known: Array = self._known[log_scale]
        return known

    def information(self, log_scale: float) -> Array:
        """Derivative of every segment's lateness by the log scale; (segments,)."""
        rise: Array = (self.twin(log_scale + 0.03) - self.twin(log_scale - 0.03)) / 0.06
        return rise

    def correlation(self, log_scale: float) -> float:
        """Pearson correlation of SUT and twin over the lateness of at least 24 blocks of time; 0 if one is constant."""
        per_segment = -(-_BLOCKS // len(self._segments))
        real, twin = [], []
        for index, s in enumerate(self._segments):
            planned = s.planned_ns[s.counted]
            span = max(s.duration_s * NS - THAW_NS, 1.0)
            block = np.clip((planned - THAW_NS) / span * per_segment, 0, per_segment - 1).astype(np.int64)
            real.append(np.bincount(block, self.real_query(index), per_segment))
            twin.append(np.bincount(block, self.twin_query(index, log_scale), per_segment))
        x, y = np.concatenate(real), np.concatenate(twin)
        return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0.0 and y.std() > 0.0 else 0.0
