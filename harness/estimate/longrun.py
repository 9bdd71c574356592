"""The twin in the long run: the late fraction of a rate, and the rate of a late fraction. Pure functions.

One worker without splitting or merging and without spells that a queue outlasts is solved by number (``mg1``); all
else is simulated on fixed long traces (``simulated_tails``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness.estimate import mg1
from harness.estimate.mg1 import NS, ServiceAtoms
from harness.estimate.simulated_tails import TRACES, SimulatedTails
from harness.estimate.spells import SpellProcess
from harness.estimate.twin import DispatchedService, ServiceTable, atoms_of, simulate, simulate_dispatch
from harness.trial import Sla
from optimizations.contract import Dispatch

Array = npt.NDArray[Any]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_SHARES = _WEIGHTS / _WEIGHTS.sum()
"""Speeds of lasting spells: five points that stand for a normal distribution (Gauss-Hermite)."""
_IDLE = math.log(1000.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class QueueTwin:
    """A service table, the mix of query sizes (sizes, probability: (k,)) and how the SUT queues them.

    delay_ns: what every latency has on top of queueing and service (transport, waking up); it occupies no worker.
    spells: slow and fast ones of the host. Of those that outlast any queue, the late fraction is the mean over the
    speeds. traces: how many are simulated where nothing else will do.
    """

    table: ServiceTable
    sizes: Array
    probability: Array
    workers: int = 1
    dispatch: Dispatch = field(default_factory=Dispatch)
    delay_ns: float = 0.0
    spells: SpellProcess = field(default_factory=SpellProcess)
    traces: int = TRACES

    @cached_property
    def service(self) -> ServiceAtoms:
        """Service time of a random query."""
        return atoms_of(self.table, self.sizes, self.probability)

    def on_traces(self, traces: int) -> QueueTwin:
        """This twin, simulated on so many traces."""
        if traces == self.traces:
            return self
        other = replace(self, traces=traces)
        vars(other)["service"] = self.service  # the same, and found once
        return other

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
            return self.latency_of(arrivals_ns, self.table.mean(sizes) * factor)
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

    def latency_of(self, arrivals_ns: Array, service_ns: Array) -> Array:
        """``latency`` of queries that are served whole and one by one, by their service times (..., n)."""
        return simulate(arrivals_ns, service_ns, self.workers) + self.delay_ns

    @cached_property
    def _tails(self) -> SimulatedTails:
        return SimulatedTails(self)

    @property
    def exact(self) -> bool:
        """Whether late fractions are solved by number."""
        return self.workers == 1 and self.plain and (self.spells.log_sd == 0.0 or self.spells.lasting)

    @property
    def _speeds(self) -> list[tuple[float, float]]:
        """(slowness, share) of lasting spells."""
        if self.spells.log_sd == 0.0 or not self.spells.lasting:
            return [(1.0, 1.0)]
        return [(math.exp(self.spells.log_sd * z), w) for z, w in zip(_NODES, _SHARES, strict=True)]

    @cached_property
    def _last_late_at(self) -> dict[tuple[float, float], Callable[[float], float]]:
        return {}

    def _late_at(self, limit_ns: float, scale: float) -> Callable[[float], float]:
        """The late fraction as a function of the rate; delay left out. The last one is kept: who asks for an LBT asks
        for its slope next."""
        known, asked = self._last_late_at, (limit_ns, scale)
        if asked not in known:
            known.clear()
            known[asked] = cache(self._new_late_at(limit_ns, scale))
        return known[asked]

    def _new_late_at(self, limit_ns: float, scale: float) -> Callable[[float], float]:
        spells = [(scale * slowness, share) for slowness, share in self._speeds]
        if not self.exact:
            tail = self._tails.late_fraction
            return lambda rate: math.fsum(share * tail(rate * x, limit_ns / x) for x, share in spells)
        queues = [mg1.StationaryWait(self.service.scaled(x), limit_ns) for x, _ in spells]
        late = mg1.LateAt(queues, [np.array([limit_ns])] * len(queues))
        shares = [share for _, share in spells]
        return lambda rate: math.fsum(w * float(x[0]) for w, x in zip(shares, late([rate] * len(shares)), strict=True))

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
        capacity, total = self.capacity_qps, np.zeros((scales.size, loads.size))
        limits = [limit_ns / (scales * slowness) for slowness, _ in self._speeds]
        if self.exact:
            queues = [mg1.StationaryWait(self.service, float(own.max())) for own in limits]
            late = mg1.LateAt(queues, limits)
            each = [late([float(load * x * capacity) for x, _ in self._speeds]) for load in loads]
            for number, (_, share) in enumerate(self._speeds):
                total += share * np.stack([found[number] for found in each], axis=1)
            return total
        tail = self._tails.late_fraction
        for own, (slowness, share) in zip(limits, self._speeds, strict=True):
            self._tails.cover(float(own.min()), float(own.max()))
            rates = loads * slowness * capacity
            total += share * np.array([[tail(float(rate), float(x)) for rate in rates] for x in own])
        return total

    @cached_property
    def _lbts(self) -> dict[tuple[Sla, float], float]:
        return {}

    def lbt_qps(self, sla: Sla, scale: float = 1.0) -> float:
        """Latency-bound throughput: the largest rate that keeps the SLA in the long run; 0 if none does."""
        if (sla, scale) not in self._lbts:
            self._lbts[sla, scale] = self._lbt_qps(sla, scale)
        return self._lbts[sla, scale]

    def _lbt_qps(self, sla: Sla, scale: float) -> float:
        limit_ns = sla.limit_ms * 1e6 - self.delay_ns
        if limit_ns <= 0.0:
            return 0.0
        if len(self._speeds) > 1:
            return self._lbt_among_spells(self._late_at(limit_ns, scale), sla.late_fraction, scale)
        if self.exact:
            return mg1.lbt_qps(self.service.scaled(scale), limit_ns, sla.late_fraction)
        return self._tails.lbt_qps(limit_ns / scale, sla.late_fraction) / scale

    def _lbt_among_spells(self, late: Callable[[float], float], allowed: float, scale: float) -> float:
        capacity = math.log(self.capacity_qps / scale)
        idle, busy = capacity - _IDLE, capacity + 3.0 * self.spells.log_sd
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


def ramp_ns(twin: QueueTwin, rate_qps: float) -> float:
    """Start of a segment that does not count: the longer of 1 s and 5 relaxation times."""
    if mg1.forgets_within(twin.service.scaled(1.0 / twin.workers), rate_qps, NS / 5.0):
        return NS
    return max(NS, 5.0 * twin.relaxation_ns(rate_qps))
