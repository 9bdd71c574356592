"""The twin on the very traces that the SUT got, its service scaled by any factor. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.longrun import QueueTwin
from harness.estimate.mg1 import NS
from harness.estimate.spells import SegmentSpells
from harness.native.queues import Traces, compiled
from harness.options import UNCOUNTED_S

Array = npt.NDArray[Any]

SMOOTHING = 0.25
"""Half width, in log latency, of the ramp that stands for the step at the limit while twin and SUT are matched."""
_SURELY_IN_TIME = math.exp(-1.01 * SMOOTHING)
"""In limits: a latency so far below has a lateness of 0, however it is rounded."""
THAW_NS = UNCOUNTED_S * NS
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
    """Smoothed lateness of twin and SUT on the same segments, for any scale of the twin's service.

    log_speeds: (segments,) log of each segment's own service scale, to which the common one is added; 0 by default.
    spells: of each segment; by default none. What is open of a spell is noise that all of its queries share.

    Segments lie side by side in arrays (segments, longest); what fills a shorter one up comes after its last query and
    is not counted.
    """

    def __init__(
        self,
        segments: Sequence[SegmentObservation],
        twin: QueueTwin,
        limit_ns: float,
        log_speeds: Array | None = None,
        copies: int = _COPIES,
        spells: Sequence[SegmentSpells] | None = None,
    ) -> None:
        self._segments, self._queue, self._limit_ns = segments, twin, limit_ns
        arrivals = _side_by_side([s.planned_ns for s in segments])
        sizes = _side_by_side([s.sizes for s in segments], np.result_type(*(s.sizes for s in segments)).type)
        latency = _side_by_side([s.latency_ns for s in segments])
        counts = np.zeros(arrivals.shape, dtype=bool)
        for row, segment in zip(counts, segments, strict=True):
            row[: segment.planned_ns.size] = segment.counted
        most = copies if twin.plain else min(copies, _DISPATCH_COPIES)
        copies = (
            int(np.clip(_SIMULATED_QUERIES // sizes.size, 1, most))
            if twin.table.log_sd > 0.0 or twin.spells.log_sd > 0.0
            else 1
        )
        own = np.zeros(len(segments)) if log_speeds is None else np.asarray(log_speeds)
        noise = twin.table.draw((copies,), sizes, seed=0) * np.exp(own)[:, None]
        for i, of in enumerate(spells or ()):
            if of.log_factor.any() or of.left_sd.any():
                drawn = np.random.default_rng((1, i)).normal(size=(copies, of.log_factor.size))
                noise[:, i] *= np.exp(of.log_factor + of.left_sd * drawn)[:, of.block_of(arrivals[i])]
        self._traces = Traces(arrivals_ns=arrivals, mean_ns=twin.table.mean(sizes), noise=noise, counted=counts)
        self._known: dict[float, Array] = {}
        self._variance: dict[float, Array] = {}
        numbers, self.quads = np.unique([s.quad for s in segments], return_inverse=True)
        self.quad_numbers = tuple(int(number) for number in numbers)
        self.rates = np.array([s.offered_qps for s in segments])
        self.counted = counts.sum(axis=1)
        self._observed = np.where(counts, lateness(latency, limit_ns), 0.0)
        self.real = self._observed.sum(axis=1)

    def _copies(self, log_scale: float) -> Array:
        """Smoothed lateness of each counted query in each copy of the noise; (copies, segments, longest).

        Few queries come near the limit: the others' is 0, and their logarithm is not taken.
        """
        place, latency = self._near_limit(math.exp(log_scale))
        late = np.zeros(self._traces.noise.size)
        late[place] = lateness(latency, self._limit_ns)
        return late.reshape(self._traces.noise.shape)

    def _near_limit(self, scale: float) -> tuple[Array, Array]:
        """Place in the flat (copies, segments, longest) and latency of the counted queries that are late at all."""
        library, traces, threshold = compiled(), self._traces, self._limit_ns * _SURELY_IN_TIME
        if library and self._queue.plain:
            return library.late(traces, self._queue.workers, scale, self._queue.delay_ns, threshold)
        factor = traces.noise * scale
        if self._queue.plain:
            factor *= traces.mean_ns
            latency = self._queue.latency_of(traces.arrivals_ns, factor)
        else:
            latency = np.zeros(factor.shape)
            for i, s in enumerate(self._segments):
                n = s.planned_ns.size
                latency[:, i, :n] = self._queue.latency(s.planned_ns, s.sizes, factor[:, i, :n])
        place = np.flatnonzero(traces.counted & (latency > threshold))
        return place, latency.ravel()[place]

    def twin(self, log_scale: float) -> Array:
        """Twin's lateness summed by segment, expected over its noise; (segments,)."""
        if log_scale not in self._known:
            sums = self._copies(log_scale).sum(axis=2)
            self._known[log_scale] = sums.mean(axis=0)
            self._variance[log_scale] = sums.var(axis=0, ddof=1) if len(sums) > 1 else np.zeros(sums.shape[1])
        known: Array = self._known[log_scale]
        return known

    def variance(self, log_scale: float) -> Array:
        """How much the noise alone moves the twin's lateness of each segment; (segments,), 0 for one copy."""
        self.twin(log_scale)
        known: Array = self._variance[log_scale]
        return known

    def information(self, log_scale: float) -> Array:
        """Derivative of every segment's lateness by the log scale; (segments,)."""
        rise: Array = (self.twin(log_scale + 0.03) - self.twin(log_scale - 0.03)) / 0.06
        return rise

    def correlation(self, log_scale: float) -> float:
        """Pearson correlation of SUT and twin over the lateness of at least 24 blocks of time; 0 if one is constant."""
        segments, per_segment = len(self._segments), -(-_BLOCKS // len(self._segments))
        span = np.array([[max(s.duration_s * NS - THAW_NS, 1.0)] for s in self._segments])
        part = np.clip((self._traces.arrivals_ns - THAW_NS) / span * per_segment, 0, per_segment - 1).astype(np.int64)
        block = (part + per_segment * np.arange(segments)[:, None]).ravel()
        blocks = segments * per_segment
        x = np.bincount(block, self._observed.ravel(), blocks)
        y = np.bincount(block, self._copies(log_scale).mean(axis=0).ravel(), blocks)
        return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0.0 and y.std() > 0.0 else 0.0


def _side_by_side(columns: Sequence[Array], kind: type = np.float64) -> Array:
    """Columns of unequal length as rows of one array, the short ones filled up with their last value."""
    rows: Array = np.empty((len(columns), max(column.size for column in columns)), dtype=kind)
    for row, column in zip(rows, columns, strict=True):
        row[: column.size], row[column.size :] = column, column[-1]
    return rows
