"""Latency tails of a twin that no formula covers, on fixed long traces: several workers, splitting, spells. Pure."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from harness.estimate.mg1 import NS
from harness.estimate.twin import simulate

if TYPE_CHECKING:
    from harness.estimate.longrun import QueueTwin

Array = npt.NDArray[Any]
TRACES = 128
LOAD_STEP = 0.02
LOWEST_LOAD = 350
"""Loads of the simulated grid are exp(-0.02 i) of capacity, down to i = 350, a thousandth."""
_QUERIES, _DISCARD = 8192, 1024
_DISPATCH_QUERIES = 120_000
_SEED = 20_190_625
_LOG_TIMES = np.linspace(-8.0, 12.0, 8001)
_SPELLS = 1024
_BLOCK = 8
"""Traces that are simulated together: half a megabyte an array."""


def on_grid(loads: Array) -> Array:
    """The simulated loads nearest to these, without repeats, ascending."""
    index = np.unique(np.rint(-np.log(np.asarray(loads, dtype=np.float64)) / LOAD_STEP))
    nearest: Array = np.exp(-LOAD_STEP * index[::-1])
    return nearest


class SimulatedTails:
    """Latency tails of a twin at unit scale on a grid of loads, each simulated when first asked for.

    Scaling every time of a queue by one factor scales its latency alike, so one simulation serves every scale
    (``wait_ms`` and the length of spells are scaled along, which matters little for scales near 1).
    """

    def __init__(self, twin: QueueTwin) -> None:
        shape = (twin.traces, _QUERIES) if twin.plain else (1, _DISPATCH_QUERIES)
        self._twin, self._tail = twin, dict[int, Array]()
        self._arrivals = _unit_arrivals(shape)
        weights = twin.probability / np.sum(twin.probability)
        kind = np.random.default_rng(_SEED + 3).choice(len(twin.sizes), size=shape, p=weights)
        self._sizes = np.asarray(twin.sizes)[kind]
        self._factor = twin.table.draw((), self._sizes, _SEED + 1)
        self._service = twin.table.mean(twin.sizes)[kind] * self._factor if twin.plain else None
        self._spells = _spell_paths(twin, shape[0])
        # Merging can serve more than the capacity without it, by at most the batch; splitting never adds any.
        self._highest_load = -math.ceil(math.log(twin.dispatch.batch) / LOAD_STEP)

    def _log_tail(self, index: int, time_ns: float) -> float:
        """log P(latency > time) at the load exp(-0.02 index) of capacity."""
        if index not in self._tail:
            self._tail[index] = self._simulated(math.exp(-LOAD_STEP * index))
        log_time = math.log(time_ns / self._twin.service.mean_ns)
        return float(np.interp(log_time, _LOG_TIMES, self._tail[index]))

    def _simulated(self, load: float) -> Array:
        """Log tail at every time of the grid, a block of traces that fits the cache at a time."""
        counts = np.zeros(_LOG_TIMES.size + 1, np.int64)
        for first in range(0, len(self._arrivals), _BLOCK):
            block = slice(first, first + _BLOCK)
            latency = self._latency(self._arrivals[block] / (self._twin.capacity_qps * load), block)
            counts += np.bincount(_bins(latency[:, _DISCARD:] / self._twin.service.mean_ns), minlength=counts.size)
        within = np.cumsum(counts[: _LOG_TIMES.size])
        return np.asarray(np.log(np.maximum(1.0 - within / counts.sum(), 1e-9)))

    def _latency(self, arrivals: Array, block: slice) -> Array:
        twin = self._twin
        slowness: Array | float = 1.0
        if self._spells is not None:
            spell = (arrivals / twin.spells.length_ns).astype(np.int64) % _SPELLS
            spell += np.arange(len(arrivals))[:, None] * _SPELLS
            slowness = self._spells[block].take(spell)
        if self._service is not None:
            return simulate(arrivals, self._service[block] * slowness, twin.workers)
        return twin.latency(arrivals[0], self._sizes[0], self._factor * slowness) - twin.delay_ns

    def late_fraction(self, rate_qps: float, limit_ns: float) -> float:
        """P(latency > limit), between the two nearest loads of the grid."""
        position = -math.log(rate_qps / self._twin.capacity_qps) / LOAD_STEP
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
        return self._twin.capacity_qps * math.exp(-LOAD_STEP * position)


def _bins(times: Array) -> Array:
    """Index of the first time of the grid that is not below each of these.

    Counting in bins is ten times quicker than sorting a million values, and 32 bits tell bins of 0.25 % apart.
    """
    place = np.log(times.ravel().astype(np.float32))
    place -= np.float32(_LOG_TIMES[0])
    place *= np.float32(1.0 / (_LOG_TIMES[1] - _LOG_TIMES[0]))
    index: Array = np.clip(np.ceil(place), 0, _LOG_TIMES.size).astype(np.int32)
    return index


@lru_cache(maxsize=4)
def _unit_arrivals(shape: tuple[int, int]) -> Array:
    """Poisson arrivals at one query per second, in ns."""
    return np.cumsum(np.random.default_rng(_SEED).exponential(NS, shape), axis=-1)


def _spell_paths(twin: QueueTwin, traces: int) -> Array | None:
    """Service factors of consecutive spells, (traces, spells); None without spells that end.

    Every other trace has the opposite speeds of the one before it, which leaves less to chance.
    """
    spells = twin.spells
    if spells.log_sd == 0.0 or spells.lasting:
        return None
    shocks = np.random.default_rng(_SEED + 2).normal(size=(-(-traces // 2), _SPELLS))
    shocks[:, 1:] *= math.sqrt(1.0 - spells.keep**2)
    log_factor = spells.log_sd * signal.lfilter([1.0], [1.0, -spells.keep], shocks, axis=1)
    paths: Array = np.exp(np.stack((log_factor, -log_factor), axis=1).reshape(-1, _SPELLS)[:traces])
    return paths
