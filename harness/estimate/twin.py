"""The queueing twin: what our own dispatcher would do to a given trace, by a table of service times. Pure functions."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.mg1 import NS, ServiceAtoms, service_atoms
from optimizations.contract import Dispatch

Array = npt.NDArray[Any]
SPREAD_POINTS = 4096
"""So many closed-loop samples keep their own value; lumped, a rare stall would weigh more than it should."""
_ATOM_WIDTH = 1e-3
_KNOTS = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceTable:
    """Service time by query size, as measured in a closed loop.

    sizes, mean_ns: (knots,) ascending sizes and the mean service there, linear in between and beyond. spread:
    (points,) equally likely values of service over its mean, ascending, with mean exactly 1.
    """

    sizes: Array
    mean_ns: Array
    spread: Array

    def mean(self, sizes: Array) -> Array:
        """Mean service in ns of queries of the given sizes (any shape); never below 1 ns."""
        n = np.asarray(sizes, dtype=np.float64)
        inside = np.interp(n, self.sizes, self.mean_ns)
        if self.sizes.size > 1:
            last = (self.mean_ns[-1] - self.mean_ns[-2]) / (self.sizes[-1] - self.sizes[-2])
            inside = inside + np.maximum(n - self.sizes[-1], 0.0) * max(float(last), 0.0)
        positive: Array = np.maximum(inside, 1.0)
        return positive

    @property
    def log_sd(self) -> float:
        """Standard deviation of log(service / mean): the noise that the size does not explain."""
        return float(np.log(self.spread).std())

    def draw(self, shape: tuple[int, ...], seed: int) -> Array:
        """Random service noise factors (mean 1); the same seed gives the same factors."""
        rng = np.random.default_rng(seed)
        factors: Array = self.spread[rng.integers(0, self.spread.size, shape)]
        return factors


def fit_service_table(sizes: Array, service_ns: Array) -> ServiceTable:
    """Service table from closed-loop samples. sizes, service_ns: (n,), n >= 2; every service time positive.

    Up to 24 knots: each distinct size, or groups of neighbouring sizes with equal counts where there are more.
    """
    n, service = np.asarray(sizes, dtype=np.float64), np.asarray(service_ns, dtype=np.float64)
    if n.size < 2 or n.shape != service.shape or not (service > 0).all() or not np.isfinite(service).all():
        raise ValueError("a service table needs at least 2 sizes, each with one finite positive service time")
    distinct, group = np.unique(n, return_inverse=True)
    if distinct.size > _KNOTS:
        edges = np.unique(np.quantile(n, np.linspace(0, 1, _KNOTS + 1)[1:-1]))
        _, group = np.unique(np.searchsorted(edges, n, side="left"), return_inverse=True)
    count = np.bincount(group)
    knots, mean = np.bincount(group, n) / count, np.bincount(group, service) / count
    table = ServiceTable(sizes=knots, mean_ns=mean, spread=np.ones(SPREAD_POINTS))
    ratios = np.sort(service / table.mean(n))
    points = min(SPREAD_POINTS, ratios.size)
    spread = np.array([chunk.mean() for chunk in np.array_split(ratios, points)])
    return ServiceTable(sizes=knots, mean_ns=mean, spread=spread / spread.mean())


def simulate(arrivals_ns: Array, service_ns: Array, workers: int = 1) -> Array:
    """Latency of every query in a FIFO queue with ``workers`` servers that starts empty.

    arrivals_ns: (..., n) ascending; service_ns: (..., n); leading axes broadcast and are independent traces.
    One server: Lindley's recursion D_k = max(A_k, D_(k-1)) + S_k, unrolled into a cumulative sum and maximum.
    """
    arrivals, service = np.asarray(arrivals_ns, dtype=np.float64), np.asarray(service_ns, dtype=np.float64)
    if workers == 1:
        busy = np.cumsum(service, axis=-1)
        latency: Array = busy + np.maximum.accumulate(arrivals - (busy - service), axis=-1) - arrivals
        return latency
    arrivals, service = np.broadcast_arrays(arrivals, service)
    flat_arrivals, flat_service = arrivals.reshape(-1, arrivals.shape[-1]).T, service.reshape(-1, arrivals.shape[-1]).T
    free = np.full((workers, flat_arrivals.shape[1]), -np.inf)
    done = np.empty_like(flat_service)
    for k in range(done.shape[0]):
        done[k] = np.maximum(free[0], flat_arrivals[k]) + flat_service[k]
        free[0] = done[k]
        free.sort(axis=0)
    return np.ascontiguousarray((done - flat_arrivals).T).reshape(arrivals.shape)


def simulate_dispatch(arrivals_ns: Array, sizes: Array, service: DispatchedService, workers: int = 1) -> Array:
    """Latency of every query when large queries are split and waiting ones merged, as the dispatcher does it.

    arrivals_ns, sizes: (n,). A query above ``dispatch.split`` samples becomes parts of that many and a rest. One worker
    at a time reads the queue: it takes the oldest part and up to ``dispatch.batch - 1`` more, and waits for these at
    most ``wait_ms`` after the first. A query is done with its last part.
    """
    arrivals, samples = np.asarray(arrivals_ns, dtype=np.float64), np.asarray(sizes, dtype=np.int64)
    largest = service.dispatch.split or int(samples.max())
    parts = -(-samples // largest)
    owner, last = np.repeat(np.arange(samples.size), parts), np.cumsum(parts) - 1
    part_size = np.full(owner.size, largest)
    part_size[last] = samples - largest * (parts - 1)
    queue = _Parts(
        arrival=arrivals[owner].tolist(), size=part_size.tolist(), factor=np.asarray(service.factor)[owner].tolist()
    )
    latency: Array = np.maximum.reduceat(_serve(queue, service, workers), last - parts + 1) - arrivals
    return latency


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DispatchedService:
    """by_samples: (largest merged size + 1,) service in ns by number of samples. factor: (n,) service noise of each
    query; a merged batch has that of its first query."""

    by_samples: Array
    factor: Array
    dispatch: Dispatch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    arrival: list[float]
    size: list[int]
    factor: list[float]


def _serve(parts: _Parts, service: DispatchedService, workers: int) -> Array:
    """Finish time of every part, in order of arrival."""
    arrival, batch, wait_ns = parts.arrival, service.dispatch.batch, service.dispatch.wait_ms * 1e6
    by_samples, total, head = service.by_samples.tolist(), len(arrival), 0
    free, intake, done = [0.0] * workers, 0.0, np.empty(total)
    while head < total:
        taken = max(heapq.heappop(free), intake, arrival[head])
        filled = arrival[head + batch - 1] if head + batch <= total else np.inf
        start = max(taken, min(filled, taken + wait_ns))
        tail, merged = head, 0
        while tail < min(total, head + batch) and arrival[tail] <= start:
            merged, tail = merged + parts.size[tail], tail + 1
        finish = start + by_samples[merged] * parts.factor[head]
        done[head:tail] = finish
        heapq.heappush(free, finish)
        intake, head = start, tail
    return done


def atoms_of(table: ServiceTable, sizes: Array, probability: Array) -> ServiceAtoms:
    """Service time of a random query: every size times every point of the spread. sizes, probability: (k,).

    Values within 0.1 % of one another become one atom at their mean.
    """
    weight = np.repeat(np.asarray(probability, dtype=np.float64), table.spread.size) / table.spread.size
    ns = np.outer(table.mean(sizes), table.spread).ravel()
    _, atom = np.unique(np.floor(np.log(ns) / _ATOM_WIDTH), return_inverse=True)
    mass = np.bincount(atom, weight)
    known = mass > 0.0
    return service_atoms(np.bincount(atom, weight * ns)[known] / mass[known], mass[known])


def unit_trace(queries: int, sizes: Array, probability: Array, seed: int) -> tuple[Array, Array]:
    """A Poisson trace of rate 1 per second: (arrivals in ns, float64; sizes), both (queries,)."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(NS, queries))
    return arrivals, rng.choice(np.asarray(sizes), size=queries, p=np.asarray(probability) / np.sum(probability))
