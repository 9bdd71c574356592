"""The twin in the long run: the late fraction of a rate, and the rate of a late fraction. Pure functions.

One worker without splitting or merging is solved by number (``mg1``); all else is simulated on fixed long traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness.estimate import mg1
from harness.estimate.mg1 import NS, ServiceAtoms
from harness.estimate.twin import DispatchedService, ServiceTable, atoms_of, simulate, simulate_dispatch
from harness.trial import Sla
from optimizations.contract import Dispatch

Array = npt.NDArray[Any]
_TRACES, _QUERIES, _DISCARD = 128, 8192, 1024
_DISPATCH_QUERIES = 120_000
_SEED = 20_190_625
_LOAD_STEP = 0.02
_LOWEST_LOAD = 350
"""Loads of the simulated grid are exp(-0.02 i) of capacity, down to i = 350, a thousandth."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_SHARES = _WEIGHTS / _WEIGHTS.sum()
"""Speeds of spells: five points that stand for a normal distribution (Gauss-Hermite)."""
_IDLE = math.log(1000.0)
_TIMES = np.exp(np.linspace(-8.0, 12.0, 8001))


@dataclass(frozen=True, kw_only=True, eq=False)
class QueueTwin:
    """A service table, the mix of query sizes (sizes, probability: (k,)) and how the SUT queues them.

    delay_ns: what every latency has on top of queueing and service (transport, waking up); it occupies no worker.
    spell_sd: standard deviation of log service between slow and fast spells that outlast the queue's memory; the late
    fraction is then the mean of those at each speed.
    """

    table: ServiceTable
    sizes: Array
    probability: Array
    workers: int = 1
    dispatch: Dispatch = field(default_factory=Dispatch)
    delay_ns: float = 0.0
    spell_sd: float = 0.0

    @cached_property
    def service(self) -> ServiceAtoms:
        """Service time of a random query."""
        return atoms_of(self.table, self.sizes, self.probability)

    def believable(self, sla: Sla, scale: float = 1.0) -> QueueTwin:
        """This twin, or the one without service noise where the noise alone makes the SLA unreachable.

        A few stalled answers of the closed loop must not condemn a system: whether it is late too often at low rates
        is for the open loop to show.
        """
        if self.lbt_qps(sla, scale) > 0.0:
            return self
        return replace(self, table=self.table.without_noise())

    @property
    def capacity_qps(self) -> float:
        """Rate at which every worker is always busy (without splitting or merging)."""
        return self.workers * NS / self.service.mean_ns

    @property
    def plain(self) -> bool:
        """Whether queries are served whole and one by one."""
        return self.dispatch.split == 0 and self.dispatch.batch == 1

    def latency(self, arrivals_ns: Array, sizes: Array, factor: Array) -> Array:
        """Latency on traces that start empty. factor: (copies, ..., n), on each service time.

        arrivals_ns, sizes: (..., n), independent traces; only one, (n,), where queries are split or merged.
        """
        if self.plain:
            return simulate(arrivals_ns, self.table.mean(sizes) * factor, self.workers) + self.delay_ns
        largest = int(np.max(sizes)) * self.dispatch.batch
        by_samples = self.table.mean(np.arange(largest + 1))
        rows = [
            simulate_dispatch(
                arrivals_ns,
                sizes,
                DispatchedService(by_samples=by_samples, factor=row, dispatch=self.dispatch),
                self.workers,
            )
            for row in factor.reshape(-1, factor.shape[-1])
        ]
        return np.stack(rows).reshape(factor.shape) + self.delay_ns

    @cached_property
    def _tails(self) -> _SimulatedTails:
        return _SimulatedTails(self)

    @property
    def _exact(self) -> bool:
        return self.workers == 1 and self.plain

    def _late_at(self, limit_ns: float, scale: float) -> Callable[[float], float]:
        """The late fraction as a function of the rate; delay left out."""
        spells = [(scale, 1.0)]
        if self.spell_sd > 0.0:
            spells = [(scale * math.exp(self.spell_sd * z), w) for z, w in zip(_NODES, _SHARES, strict=True)]
        if not self._exact:
            tail = self._tails.late_fraction
            return lambda rate: math.fsum(share * tail(rate * x, limit_ns / x) for x, share in spells)
        queues = [(mg1.StationaryWait(self.service.scaled(x), limit_ns), share) for x, share in spells]
        return lambda rate: math.fsum(share * queue.late_fraction(rate, limit_ns) for queue, share in queues)

    def late_fraction(self, rate_qps: float, limit_ns: float, scale: float = 1.0) -> float:
        """P(latency > limit) at an offered rate when every service time is multiplied by ``scale``."""
        limit_ns -= self.delay_ns
        return self._late_at(limit_ns, scale)(rate_qps) if limit_ns > 0.0 else 1.0

    def late_table(self, loads: Array, limit_ns: float, scales: Array) -> Array:
        """``late_fraction`` at many rates and scales; (scales, loads). loads: share of the capacity at each scale.

        At equal load a slower server is late as a faster one is at a shorter limit, so each load is solved once.
        """
        limit_ns -= self.delay_ns
        if limit_ns <= 0.0:
            return np.ones((scales.size, loads.size))
        spells = [(math.exp(self.spell_sd * z), w) for z, w in zip(_NODES, _SHARES, strict=True)]
        total = np.zeros((scales.size, loads.size))
        for slowness, share in spells if self.spell_sd > 0.0 else [(1.0, 1.0)]:
            limits, rates = limit_ns / (scales * slowness), loads * slowness * self.capacity_qps
            if self._exact:
                queue = mg1.StationaryWait(self.service, float(limits.max()))
                total += share * np.stack([queue.late_fractions(float(rate), limits) for rate in rates], axis=1)
            else:
                tail = self._tails.late_fraction
                total += share * np.array([[tail(float(rate), float(x)) for rate in rates] for x in limits])
        return total

    def lbt_qps(self, sla: Sla, scale: float = 1.0) -> float:
        """Latency-bound throughput: the largest rate that keeps the SLA in the long run; 0 if none does."""
        limit_ns = sla.limit_ms * 1e6 - self.delay_ns
        if limit_ns <= 0.0:
            return 0.0
        if self.spell_sd > 0.0:
            return self._lbt_among_spells(self._late_at(limit_ns, scale), sla.late_fraction, scale)
        if self._exact:
            return mg1.lbt_qps(self.service.scaled(scale), limit_ns, sla.late_fraction)
        return self._tails.lbt_qps(limit_ns / scale, sla.late_fraction) / scale

    def _lbt_among_spells(self, late: Callable[[float], float], allowed: float, scale: float) -> float:
        capacity = math.log(self.capacity_qps / scale)
        idle, busy = capacity - _IDLE, capacity + 3.0 * self.spell_sd
        if late(math.exp(idle)) >= allowed:
            return 0.0
        if late(math.exp(busy)) <= allowed:  # the limit is longer than any queue on the simulated traces
            return math.exp(capacity)
        root = optimize.brentq(lambda log_rate: late(math.exp(log_rate)) - allowed, idle, busy, xtol=1e-6)
        return math.exp(float(root))

    def log_slope(self, rate_qps: float, sla: Sla, scale: float = 1.0) -> float:
        """d log(late fraction) / d log(rate): how sharp the crossing is; at least 0.1."""
        limit_ns = sla.limit_ms * 1e6
        high, low = (max(self.late_fraction(rate_qps * f, limit_ns, scale), 1e-12) for f in (1.02, 0.98))
        return max(math.log(high / low) / math.log(1.02 / 0.98), 0.1)

    def relaxation_ns(self, rate_qps: float, scale: float = 1.0) -> float:
        """Time in which the queue forgets its start (that of one server with the workers' joint speed)."""
        return mg1.relaxation_ns(self.service.scaled(scale / self.workers), rate_qps)


class _SimulatedTails:
    """Latency tails of a twin at unit scale on a grid of loads, each simulated when first asked for.

    Scaling every time of a queue by one factor scales its latency alike, so one simulation serves every scale
    (``wait_ms`` is scaled along, which matters little for scales near 1).
    """

    def __init__(self, twin: QueueTwin) -> None:
        shape = (_TRACES, _QUERIES) if twin.plain else (1, _DISPATCH_QUERIES)
        rng = np.random.default_rng(_SEED)
        self._twin, self._tail = twin, dict[int, Array]()
        self._arrivals = np.cumsum(rng.exponential(NS, shape), axis=-1)
        self._sizes = rng.choice(twin.sizes, size=shape, p=twin.probability / np.sum(twin.probability))
        self._factor = twin.table.draw((), self._sizes, _SEED + 1)
        # Merging can serve more than the capacity without it, by at most the batch; splitting never adds any.
        self._highest_load = -math.ceil(math.log(twin.dispatch.batch) / _LOAD_STEP)

    def _log_tail(self, index: int, time_ns: float) -> float:
        """log P(latency > time) at the load exp(-0.02 index) of capacity."""
        if index not in self._tail:
            arrivals = self._arrivals / (self._twin.capacity_qps * math.exp(-_LOAD_STEP * index))
            if self._twin.plain:
                latency = simulate(arrivals, self._twin.table.mean(self._sizes) * self._factor, self._twin.workers)
            else:
                latency = self._twin.latency(arrivals[0], self._sizes[0], self._factor) - self._twin.delay_ns
            scaled = latency[:, _DISCARD:] / self._twin.service.mean_ns
            above = np.searchsorted(np.sort(scaled, axis=None), _TIMES, side="right")
            self._tail[index] = np.log(np.maximum(1.0 - above / scaled.size, 1e-9))
        return float(np.interp(math.log(time_ns / self._twin.service.mean_ns), np.log(_TIMES), self._tail[index]))

    def late_fraction(self, rate_qps: float, limit_ns: float) -> float:
        """P(latency > limit), between the two nearest loads of the grid."""
        position = -math.log(rate_qps / self._twin.capacity_qps) / _LOAD_STEP
        position = min(max(position, self._highest_load), _LOWEST_LOAD)
        index = math.floor(position)
        near, far = self._log_tail(index, limit_ns), self._log_tail(index + 1, limit_ns)
        return math.exp(near + (far - near) * (position - index))

    def lbt_qps(self, limit_ns: float, allowed: float) -> float:
        """The rate at which the late fraction is ``allowed``; 0 if it is higher at a thousandth of capacity."""
        target, busy, idle = math.log(allowed), self._highest_load, _LOWEST_LOAD
        if self._log_tail(idle, limit_ns) > target:
            return 0.0
        while idle - busy > 1:
            middle = (busy + idle) // 2
            busy, idle = (middle, idle) if self._log_tail(middle, limit_ns) > target else (busy, middle)
        high, low = self._log_tail(busy, limit_ns), self._log_tail(idle, limit_ns)
        position = idle - min(max((target - low) / max(high - low, 1e-12), 0.0), 1.0)
        return self._twin.capacity_qps * math.exp(-_LOAD_STEP * position)


def ramp_ns(twin: QueueTwin, rate_qps: float) -> float:
    """Start of a segment that does not count: the longer of 1 s and 5 relaxation times."""
    return max(NS, 5.0 * twin.relaxation_ns(rate_qps))
