"""The queueing twin: what our own dispatcher would do to a given trace, by a table of service times. Pure functions."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.mg1 import NS, ServiceAtoms, service_atoms
from optimizations.contract import Dispatch

Array = npt.NDArray[Any]
FEW_TRACES = 12
"""Up to so many traces are simulated one after the other."""
SPREAD_POINTS = 2048
"""So many samples of a group keep their own value; lumped with its neighbours, a rare stall would lose its length."""
_ATOM_WIDTH = 1e-3
_KNOTS = 24
_GROUP_SAMPLES = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceTable:
    """Service time by query size, as measured in a closed loop.

    sizes, mean_ns: (knots,) ascending positive sizes and the mean service there, linear in between and beyond. spread:
    (points,) values of service over its mean, with mean 1, equally likely within a group of neighbouring sizes: a stall
    of a fixed length is a large factor for a small query and a small one for a large query. edges: (groups - 1,) the
    largest size of each group but the last; counts: (groups,) how many values of ``spread`` belong to each, in order.
    Without edges all values are of one group.
    """

    sizes: Array
    mean_ns: Array
    spread: Array
    edges: Array = field(default_factory=lambda: np.zeros(0))
    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def mean(self, sizes: Array) -> Array:
        """Mean service in ns of queries of the given sizes (any shape); never below 1 ns."""
        n = np.asarray(sizes, dtype=np.float64)
        inside = np.interp(n, self.sizes, self.mean_ns)
        if self.sizes.size > 1:
            first, last = (max(float(x), 0.0) for x in (np.diff(self.mean_ns) / np.diff(self.sizes))[[0, -1]])
            inside = inside + np.maximum(n - self.sizes[-1], 0.0) * last
            # A query that is smaller still costs at least its share: nothing has a negative fixed cost.
            share = self.mean_ns[0] * np.minimum(n / self.sizes[0], 1.0)
            inside = np.where(n < self.sizes[0], np.maximum(inside - (self.sizes[0] - n) * first, share), inside)
        positive: Array = np.maximum(inside, 1.0)
        return positive

    @property
    def log_sd(self) -> float:
        """Standard deviation of log(service / mean): the noise that the size does not explain."""
        return float(np.log(self.spread).std())

    def without_noise(self) -> ServiceTable:
        """The same means, and every service time at its mean."""
        return ServiceTable(sizes=self.sizes, mean_ns=self.mean_ns, spread=np.ones(1))

    def group(self, sizes: Array) -> Array:
        """Number of the noise group of each size."""
        return np.searchsorted(self.edges, sizes, side="left")

    def values(self, size: float) -> Array:
        """The equally likely factors of a query of this size."""
        if not self.edges.size:
            return self.spread
        last = np.cumsum(self.counts)
        group = int(self.group(np.asarray(size)))
        found: Array = self.spread[last[group] - self.counts[group] : last[group]]
        return found

    def draw(self, copies: tuple[int, ...], sizes: Array, seed: int) -> Array:
        """Random service factors for queries of these sizes, (*copies, *sizes.shape); the same for the same seed."""
        uniform = np.random.default_rng(seed).random((*copies, *np.shape(sizes)))
        if not self.edges.size:
            factors: Array = self.spread[(uniform * self.spread.size).astype(np.int64)]
            return factors
        group = self.group(sizes)
        first = (np.cumsum(self.counts) - self.counts)[group]
        factors = self.spread[first + (uniform * self.counts[group]).astype(np.int64)]
        return factors


def fit_service_table(sizes: Array, service_ns: Array) -> ServiceTable:
    """Service table from samples. sizes, service_ns: (n,), n >= 2; every service time positive.

    Up to 24 knots: each distinct size, or groups of neighbouring sizes with equal counts where there are more. The
    noise has a group of its own for every 100 samples, up to as many as there are knots.
    """
    n, service = np.asarray(sizes, dtype=np.float64), np.asarray(service_ns, dtype=np.float64)
    if n.size < 2 or n.shape != service.shape or not (service > 0).all() or not np.isfinite(service).all():
        raise ValueError("a service table needs at least 2 sizes, each with one finite positive service time")
    distinct, group = np.unique(n, return_inverse=True)
    if distinct.size > _KNOTS:
        _, group = np.unique(np.searchsorted(_group_edges(n, _KNOTS), n, side="left"), return_inverse=True)
    count = np.bincount(group)
    knots, mean = np.bincount(group, n) / count, np.bincount(group, service) / count
    ratios = service / ServiceTable(sizes=knots, mean_ns=mean, spread=np.ones(1)).mean(n)
    ratios = ratios / ratios.mean()
    edges = _group_edges(n, min(n.size // _GROUP_SAMPLES, knots.size))
    member = np.searchsorted(edges, n, side="left")
    lumped = [_lumped(ratios[member == g], SPREAD_POINTS) for g in range(edges.size + 1)]
    return ServiceTable(
        sizes=knots, mean_ns=mean, spread=np.concatenate(lumped), edges=edges,
        counts=np.array([part.size for part in lumped]),
    )  # fmt: skip


def _group_edges(n: Array, groups: int) -> Array:
    """Sizes that part the samples into about so many groups of equal counts, the last one open; (groups - 1,)."""
    if groups < 2:
        return np.zeros(0)
    edges: Array = np.unique(np.quantile(n, np.linspace(0, 1, groups + 1)[1:-1]))
    inside: Array = edges[(edges >= n.min()) & (edges < n.max())]
    return inside


def _lumped(values: Array, points: int) -> Array:
    """At most so many equally likely values: the means of as many equal shares of the ordered values."""
    ordered = np.sort(values)
    if ordered.size <= points:
        return ordered
    below = np.interp(
        np.linspace(0.0, ordered.size, points + 1),
        np.arange(ordered.size + 1),
        np.concatenate(([0.0], np.cumsum(ordered))),
    )
    lumped: Array = np.diff(below) * (points / ordered.size)
    return lumped


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
    flat_arrivals, flat_service = (np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T) for x in (arrivals, service))
    one_by_one = flat_arrivals.shape[1] <= FEW_TRACES
    done = (_done_one_by_one if one_by_one else _done_side_by_side)(flat_arrivals, flat_service, workers)
    return np.ascontiguousarray((done - flat_arrivals).T).reshape(arrivals.shape)


def _done_one_by_one(arrivals: Array, service: Array, workers: int) -> Array:
    """When each query (n, traces) is done, trace after trace: plain floats beat arrays that are this short."""
    done = np.empty_like(service)
    for trace in range(done.shape[1]):
        free, ends = [-math.inf] * workers, []
        for arrival, work in zip(arrivals[:, trace].tolist(), service[:, trace].tolist(), strict=True):
            end = (free[0] if free[0] > arrival else arrival) + work
            heapq.heapreplace(free, end)
            ends.append(end)
        done[:, trace] = ends
    return done


def _done_side_by_side(arrivals: Array, service: Array, workers: int) -> Array:
    """When each query (n, traces) is done, all traces a query at a time."""
    free = [np.full(arrivals.shape[1], -np.inf) for _ in range(workers)]
    done = np.empty_like(service)
    for k in range(done.shape[0]):
        last = done[k] = np.maximum(free[0], arrivals[k]) + service[k]
        for w in range(1, workers):  # the others are in order: one pass puts the new one into its place
            free[w - 1], last = np.minimum(free[w], last), np.maximum(free[w], last)
        free[workers - 1] = last
    return done


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
    """Service time of a random query: every size times every factor of its group. sizes, probability: (k,).

    Values within 0.1 % of one another become one atom at their mean.
    """
    means, shares = table.mean(sizes), np.asarray(probability, dtype=np.float64)
    factors = [table.values(size) for size in np.asarray(sizes, dtype=np.float64)]
    ns = np.concatenate([mean * values for mean, values in zip(means, factors, strict=True)])
    weight = np.concatenate([np.full(v.size, share / v.size) for share, v in zip(shares, factors, strict=True)])
    atom = np.floor(np.log(ns) / _ATOM_WIDTH).astype(np.int64)
    atom -= atom.min()
    mass = np.bincount(atom, weight)
    known = mass > 0.0
    return service_atoms(np.bincount(atom, weight * ns)[known] / mass[known], mass[known])


def unit_trace(queries: int, sizes: Array, probability: Array, seed: int) -> tuple[Array, Array]:
    """A Poisson trace of rate 1 per second: (arrivals in ns, float64; sizes), both (queries,)."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(NS, queries))
    return arrivals, rng.choice(np.asarray(sizes), size=queries, p=np.asarray(probability) / np.sum(probability))
