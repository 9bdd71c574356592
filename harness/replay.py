"""The twin on the very traces that the SUT got: scaled until both are late equally often. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

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
_FARTHEST = 2.0
_AROUND = np.array([-0.15, -0.07, -0.03, -0.01, 0.0, 0.01, 0.03, 0.07, 0.15])


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinFit:
    """Log of the service scale that matches the SUT's lateness, in all and with each unit left out, per unit kind.

    log_scale is -inf where the SUT was never near its limit. quads: the numbers of the quads, in order. information_*:
    how much each unit's lateness says about the scale, its derivative by the scale. correlation: of SUT and twin,
    lateness of blocks of time.
    """

    log_scale: float
    without_segment: Array
    without_quad: Array
    information_segment: Array
    information_quad: Array
    quads: tuple[int, ...]
    correlation: float


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

    def root(self) -> float:
        """The log scale at which twin and SUT have the same lateness in total; -inf if the SUT has none, inf if it has
        nothing else or the scale is beyond a factor of e^2."""
        target = float(self.real.sum())

        def excess(log_scale: float) -> float:
            return float(self.twin(log_scale).sum()) - target

        if target <= 0.0:
            return -math.inf
        if target >= sum(int(s.counted.sum()) for s in self._segments):
            return math.inf
        sign = 1.0 if excess(0.0) < 0.0 else -1.0
        near = far = 0.0
        step = 0.06
        while excess(far) * sign < 0.0:
            if abs(far) >= _FARTHEST:
                return sign * math.inf
            near, far, step = far, far + sign * step, 2.0 * step
        return float(optimize.brentq(excess, near, far, xtol=1e-4)) if near != far else near

    def roots_without(self, log_scale: float, unit: Array) -> Array:
        """The root with each unit's segments left out; (units,). unit: (segments,) from 0.

        Read off the log of the remaining lateness on a grid around the common root, linear between and beyond.
        """
        grid = log_scale + _AROUND
        by_unit = np.stack([np.bincount(unit, self.twin(float(x))) for x in grid])
        left = np.log(np.maximum(by_unit.sum(axis=1, keepdims=True) - by_unit, 1e-9))
        real = np.bincount(unit, self.real)
        target = np.log(np.maximum(real.sum() - real, 1e-3))
        roots = [_inverse(grid, left[:, u], float(target[u])) for u in range(real.size)]
        clipped: Array = np.clip(np.array(roots), log_scale - 1.0, log_scale + 1.0)
        return clipped

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


def _inverse(x: Array, rising: Array, target: float) -> float:
    """x at which a piecewise linear rising curve reaches the target, extended with the slope of its end pieces."""
    piece = int(np.clip(np.searchsorted(rising, target) - 1, 0, x.size - 2))
    slope = max(float(rising[piece + 1] - rising[piece]), 1e-9) / float(x[piece + 1] - x[piece])
    return float(x[piece]) + (target - float(rising[piece])) / slope


def match_scale(segments: Sequence[SegmentObservation], twin: QueueTwin, limit_ns: float) -> float:
    """Log service scale at which twin and SUT are equally late on these segments, quickly: it steers the search."""
    return Replay(segments, twin, limit_ns, copies=1).root()


def fit_twin(segments: Sequence[SegmentObservation], twin: QueueTwin, limit_ns: float) -> TwinFit:
    """Match the twin to the SUT on all segments together, and with each segment and each quad left out."""
    replay = Replay(segments, twin, limit_ns)
    root = replay.root()
    if not math.isfinite(root):
        none = np.empty(0)
        return TwinFit(
            log_scale=root, without_segment=none, without_quad=none, information_segment=none, information_quad=none,
            quads=(), correlation=0.0,
        )  # fmt: skip
    information = replay.information(root)
    return TwinFit(
        log_scale=root,
        without_segment=replay.roots_without(root, np.arange(len(segments))),
        without_quad=replay.roots_without(root, replay.quads),
        information_segment=information,
        information_quad=np.bincount(replay.quads, information),
        quads=replay.quad_numbers,
        correlation=replay.correlation(root),
    )
