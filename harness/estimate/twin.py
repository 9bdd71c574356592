"""The queueing twin: what our own dispatcher would do to a given trace, by a table of service times. Pure functions."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.fifo import simulate
from harness.estimate.mg1 import NS, ServiceAtoms, service_atoms
from harness.estimate.service_table import ServiceTable, fit_service_table
from harness.native.queues import compiled
from harness.native.waits import compiled as compiled_waits
from optimizations.contract import Dispatch

Array = npt.NDArray[Any]
_ATOM_WIDTH = 1e-3

__all__ = [
    "DispatchedService", "ServiceTable", "atoms_of", "fit_service_table", "simulate", "simulate_dispatch", "unit_trace",
]  # fmt: skip


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
    queue = _Parts(arrival=arrivals[owner], size=part_size, factor=np.asarray(service.factor)[owner])
    latency: Array = np.maximum.reduceat(_serve(queue, service, workers), last - parts + 1) - arrivals
    return latency


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DispatchedService:
    """by_samples: (largest merged size + 1,) service in ns by number of samples. factor: (n,) service noise of each
    query; a merged batch has that of its first query."""

    by_samples: Array
    factor: Array
    dispatch: Dispatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """Each (parts,), in order of arrival."""

    arrival: Array
    size: Array
    factor: Array


def _serve(parts: _Parts, service: DispatchedService, workers: int) -> Array:
    """Finish time of every part, in order of arrival."""
    batch, wait_ns = service.dispatch.batch, service.dispatch.wait_ms * 1e6
    library = compiled()
    if library and int(parts.size.max()) * batch < service.by_samples.size:
        given = parts.arrival, parts.size, parts.factor
        return library.serve_parts(given, service.by_samples, workers, batch, wait_ns)
    arrival, size, factor = parts.arrival.tolist(), parts.size.tolist(), parts.factor.tolist()
    by_samples, total, head = service.by_samples.tolist(), len(arrival), 0
    free, intake, done = [0.0] * workers, 0.0, np.empty(total)
    while head < total:
        taken = max(heapq.heappop(free), intake, arrival[head])
        filled = arrival[head + batch - 1] if head + batch <= total else np.inf
        start = max(taken, min(filled, taken + wait_ns))
        tail, merged = head, 0
        while tail < min(total, head + batch) and arrival[tail] <= start:
            merged, tail = merged + size[tail], tail + 1
        finish = start + by_samples[merged] * factor[head]
        done[head:tail] = finish
        heapq.heappush(free, finish)
        intake, head = start, tail
    return done


def atoms_of(table: ServiceTable, sizes: Array, probability: Array) -> ServiceAtoms:
    """Service time of a random query: every size times every factor of its group. sizes, probability: (k,).

    Values within 0.1 % of one another become one atom at their mean.
    """
    means, shares = table.mean(sizes), np.asarray(probability, dtype=np.float64)
    of_group = np.split(table.spread, np.cumsum(table.counts)[:-1]) if table.edges.size else [table.spread]
    factors = [of_group[group] for group in table.group(np.asarray(sizes, dtype=np.float64))]
    ns = np.concatenate([mean * values for mean, values in zip(means, factors, strict=True)])
    count = np.array([values.size for values in factors])
    if library := compiled_waits():
        mass, moment = library.lump(ns, np.log(ns), count, shares / count, _ATOM_WIDTH)
    else:
        weight = np.repeat(shares / count, count)
        atom = np.floor(np.log(ns) / _ATOM_WIDTH).astype(np.int64)
        atom -= atom.min()
        mass, moment = np.bincount(atom, weight), np.bincount(atom, weight * ns)
    known = mass > 0.0
    return service_atoms(moment[known] / mass[known], mass[known])


def unit_trace(queries: int, sizes: Array, probability: Array, seed: int) -> tuple[Array, Array]:
    """A Poisson trace of rate 1 per second: (arrivals in ns, float64; sizes), both (queries,)."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(NS, queries))
    return arrivals, rng.choice(np.asarray(sizes), size=queries, p=np.asarray(probability) / np.sum(probability))
