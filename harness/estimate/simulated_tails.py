"""Latency tails of a twin that no formula covers, on fixed long traces: several workers, splitting, spells. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.estimate.long_traces import LongTraces

if TYPE_CHECKING:
    from harness.estimate.longrun import QueueTwin

Array = npt.NDArray[Any]
TRACES = 128
LOAD_STEP = 0.02
LOWEST_LOAD = 350
"""Loads of the simulated grid are exp(-0.02 i) of capacity, down to i = 350, a thousandth."""
_LOG_TIMES = np.linspace(-8.0, 12.0, 8001)
_HALF = 0.5 * float(_LOG_TIMES[1] - _LOG_TIMES[0])
_AROUND = 0.3


def on_grid(loads: Array) -> Array:
    """The simulated loads nearest to these, without repeats, ascending."""
    index = np.unique(np.rint(-np.log(np.asarray(loads, dtype=np.float64)) / LOAD_STEP))
    nearest: Array = np.exp(-LOAD_STEP * index[::-1])
    return nearest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tail:
    """log P(latency > time) at the log times number ``first`` to ``last`` of the grid, both included."""

    first: int
    last: int
    log_late: Array

    def covers(self, log_time: float) -> bool:
        """Whether the tail is known there; beyond the grid it stays as it is at its end."""
        after = self.first == 0 or log_time >= _LOG_TIMES[self.first]
        return after and (self.last == _LOG_TIMES.size - 1 or log_time <= _LOG_TIMES[self.last])

    def at(self, log_time: float) -> float:
        """Linear between the points of the grid."""
        return float(np.interp(log_time, _LOG_TIMES[self.first : self.last + 1], self.log_late))


class SimulatedTails:
    """Latency tails of a twin at unit scale on a grid of loads, each simulated when first asked for.

    Scaling every time of a queue by one factor scales its latency alike, so one simulation serves every scale
    (``wait_ms`` and the length of spells are scaled along, which matters little for scales near 1). Latencies are told
    apart around the times that were asked for; those beyond are only counted.
    """

    def __init__(self, twin: QueueTwin) -> None:
        self._traces, self._tail = LongTraces(twin), dict[int, _Tail]()
        self._mean_ns, self._capacity_qps = twin.service.mean_ns, twin.capacity_qps
        self._first, self._last = _LOG_TIMES.size, 0
        # Merging can serve more than the capacity without it, by at most the batch; splitting never adds any.
        self._highest_load = -math.ceil(math.log(twin.dispatch.batch) / LOAD_STEP)

    def cover(self, shortest_ns: float, longest_ns: float) -> None:
        """Tell latencies apart from the shortest to the longest of these, and a little beyond."""
        low, high = (math.log(time / self._mean_ns) for time in (shortest_ns, longest_ns))
        first, last = (int(np.searchsorted(_LOG_TIMES, x)) for x in (low - _AROUND, high + _AROUND))
        self._first = min(self._first, max(min(first, _LOG_TIMES.size - 1) - 1, 0))
        self._last = max(self._last, min(max(last, 1), _LOG_TIMES.size - 1))

    def _log_tail(self, index: int, time_ns: float) -> float:
        """log P(latency > time) at the load exp(-0.02 index) of capacity."""
        log_time, known = math.log(time_ns / self._mean_ns), self._tail.get(index)
        if known is None or not known.covers(log_time):
            self.cover(time_ns, time_ns)
            known = self._tail[index] = self._simulated(math.exp(-LOAD_STEP * index))
        return known.at(log_time)

    def _simulated(self, load: float) -> _Tail:
        first, last = self._first, self._last
        # Half a step of the grid away from its ends: rounding moves no latency that far.
        low, high = (self._mean_ns * math.exp(_LOG_TIMES[i] + half) for i, half in ((first, -_HALF), (last, _HALF)))
        between, above = self._traces.between(self._capacity_qps * load, low, high)
        counts = np.bincount(_bins(between / self._mean_ns, first, last + 1), minlength=last - first + 2)
        queries = self._traces.queries
        counts[0] += queries - between.size - above
        within = np.cumsum(counts[:-1])
        return _Tail(first=first, last=last, log_late=np.log(np.maximum(1.0 - within / queries, 1e-9)))

    def late_fraction(self, rate_qps: float, limit_ns: float) -> float:
        """P(latency > limit), between the two nearest loads of the grid."""
        position = -math.log(rate_qps / self._capacity_qps) / LOAD_STEP
        position = min(max(position, self._highest_load), LOWEST_LOAD)
        index = round(position)
        if abs(position - index) < 1e-9:
            return math.exp(self._log_tail(index, limit_ns))
        index = math.floor(position)
        near, far = self._log_tail(index, limit_ns), self._log_tail(index + 1, limit_ns)
        return math.exp(near + (far - near) * (position - index))

    def lbt_qps(self, limit_ns: float, allowed: float) -> float:
        """The rate at which the late fraction is ``allowed``; 0 if it is higher at a thousandth of capacity."""
        target, busy, idle = math.log(allowed), self._highest_load, LOWEST_LOAD
        if self._log_tail(idle, limit_ns) > target:
            return 0.0
        while idle - busy > 1:
            middle = (busy + idle) // 2
            busy, idle = (middle, idle) if self._log_tail(middle, limit_ns) > target else (busy, middle)
        high, low = self._log_tail(busy, limit_ns), self._log_tail(idle, limit_ns)
        position = idle - min(max((target - low) / max(high - low, 1e-12), 0.0), 1.0)
        return self._capacity_qps * math.exp(-LOAD_STEP * position)


def _bins(times: Array, first: int, last: int) -> Array:
    """Index of the first time of the grid that is not below each of these, between two of them; 0 for ``first``.

    Counting in bins is ten times quicker than sorting a million values, and 32 bits tell bins of 0.25 % apart.
    """
    place = np.log(times.astype(np.float32))
    place -= np.float32(_LOG_TIMES[0])
    place *= np.float32(1.0 / (_LOG_TIMES[1] - _LOG_TIMES[0]))
    index: Array = np.clip(np.ceil(place), first, last).astype(np.int64) - first
    return index
