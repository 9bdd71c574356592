"""The twin in the long run: the late fraction of a rate, and the rate of a late fraction. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness import mg1
from harness.mg1 import NS, ServiceAtoms
from harness.trial import Sla
from harness.twin import ServiceTable, atoms_of, simulate, simulate_dispatch
from optimizations.contract import Dispatch

Array = npt.NDArray[Any]
_TRACES, _QUERIES, _DISCARD = 128, 8192, 1024
_DISPATCH_QUERIES = 200_000
_SEED = 20_190_625
_NOISE_FREE = Dispatch()


@dataclass(frozen=True, kw_only=True, eq=False)
class QueueTwin:
    """A service table, the mix of query sizes (sizes, probability: (k,)) and how the SUT queues them."""

    table: ServiceTable
    sizes: Array
    probability: Array
    workers: int = 1
    dispatch: Dispatch = field(default_factory=Dispatch)

    @cached_property
    def service(self) -> ServiceAtoms:
        """Service time of a random query."""
        return atoms_of(self.table, self.sizes, self.probability)

    @property
    def capacity_qps(self) -> float:
        """Rate at which every worker is always busy (without merging)."""
        return self.workers * NS / self.service.mean_ns

    @property
    def exact(self) -> bool:
        """Whether the long run is solved by number (one worker, no split, no merge) rather than simulated."""
        return self.workers == 1 and self.dispatch.split == 0 and self.dispatch.batch == 1

    def latency(self, arrivals_ns: Array, sizes: Array, noise: Array) -> Array:
        """Latency on one trace that starts empty. arrivals_ns, sizes: (n,); noise: (..., n) factors on service."""
        if self.dispatch.split == 0 and self.dispatch.batch == 1:
            return simulate(arrivals_ns, self.table.mean(sizes) * noise, self.workers)
        # Parts and merged batches have no noise of their own in the table: the scale of the trace applies to all.
        flat = noise.reshape(-1, noise.shape[-1])
        largest = int(max(self.dispatch.split, self.sizes.max()) * self.dispatch.batch)
        service_of = self.table.mean(np.arange(largest + 1))
        rows = [
            simulate_dispatch(arrivals_ns, sizes, service_of * row.mean(), self.dispatch, self.workers) for row in flat
        ]
        return np.stack(rows).reshape(noise.shape)

    @cached_property
    def _long_traces(self) -> tuple[Array, Array, Array]:
        shape = (_TRACES, _QUERIES) if self.dispatch == _NOISE_FREE else (1, _DISPATCH_QUERIES)
        rng = np.random.default_rng(_SEED)
        arrivals = np.cumsum(rng.exponential(NS, shape), axis=-1)
        sizes = rng.choice(self.sizes, size=shape, p=self.probability / np.sum(self.probability))
        return arrivals, sizes, self.table.draw(shape, _SEED + 1)

    def late_fraction(self, rate_qps: float, limit_ns: float, scale: float = 1.0) -> float:
        """P(latency > limit) at an offered rate when every service time is multiplied by ``scale``."""
        if self.exact:
            return mg1.late_fraction(self.service.scaled(scale), rate_qps, limit_ns)
        arrivals, sizes, noise = self._long_traces
        if self.dispatch == _NOISE_FREE:
            latency = simulate(arrivals / rate_qps, self.table.mean(sizes) * noise * scale, self.workers)
        else:
            latency = self.latency(arrivals[0] / rate_qps, sizes[0], np.full_like(noise, scale))
        return float(np.mean(latency[:, _DISCARD:] > limit_ns))

    def lbt_qps(self, sla: Sla, scale: float = 1.0) -> float:
        """Latency-bound throughput: the largest rate that keeps the SLA in the long run; 0 if none does."""
        limit_ns = sla.limit_ms * 1e6
        if self.exact:
            return mg1.lbt_qps(self.service.scaled(scale), limit_ns, sla.late_fraction)
        capacity = self.capacity_qps / scale * max(1, self.dispatch.batch)

        def excess(log_rate: float) -> float:
            return self.late_fraction(float(np.exp(log_rate)), limit_ns, scale) - sla.late_fraction

        low, high = np.log(1e-3 * capacity), np.log(capacity)
        if excess(low) > 0.0:
            return 0.0
        return float(np.exp(optimize.brentq(excess, low, high, xtol=1e-4)) if excess(high) > 0.0 else capacity)

    def log_slope(self, rate_qps: float, sla: Sla, scale: float = 1.0) -> float:
        """d log(late fraction) / d log(rate): how sharp the crossing is; at least 0.1."""
        limit_ns = sla.limit_ms * 1e6
        high, low = (max(self.late_fraction(rate_qps * f, limit_ns, scale), 1e-12) for f in (1.02, 0.98))
        return max(float(np.log(high / low) / np.log(1.02 / 0.98)), 0.1)

    def relaxation_ns(self, rate_qps: float, scale: float = 1.0) -> float:
        """Time in which the queue forgets its start (that of one server with the workers' joint speed)."""
        return mg1.relaxation_ns(self.service.scaled(scale / self.workers), rate_qps)


def ramp_ns(twin: QueueTwin, rate_qps: float) -> float:
    """Start of a segment that does not count: the longer of 1 s and 5 relaxation times."""
    return max(NS, 5.0 * twin.relaxation_ns(rate_qps))
