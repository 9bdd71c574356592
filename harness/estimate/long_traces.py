"""Fixed long traces on which a twin is simulated: arrivals, service and spells, the same for every rate. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from harness.estimate.mg1 import NS
from harness.estimate.twin import simulate
from harness.native.queues import Columns, Queues, compiled

if TYPE_CHECKING:
    from harness.estimate.longrun import QueueTwin

Array = npt.NDArray[Any]
_QUERIES, _DISCARD = 8192, 1024
_DISPATCH_QUERIES = 120_000
_SEED = 20_190_625
_SPELLS = 1024
_BLOCK = 8
"""Traces that are simulated together: half a megabyte an array."""


class LongTraces:
    """The traces of a twin, at unit scale. queries: how many count in all; the first of each trace load the queue."""

    def __init__(self, twin: QueueTwin) -> None:
        shape = (twin.traces, _QUERIES) if twin.plain else (1, _DISPATCH_QUERIES)
        self.queries = shape[0] * (shape[1] - _DISCARD)
        self._twin, self._library = twin, compiled() if twin.plain else None
        weights = twin.probability / np.sum(twin.probability)
        self._drawn = _drawn(shape, tuple(weights.tolist()), self._library is not None)
        self._spells = _spell_paths(twin, shape[0])
        self._service = _service(twin, self._drawn, self._library)

    def between(self, rate: float, low_ns: float, high_ns: float) -> tuple[Array, int]:
        """Latencies in (low, high] at a rate, and how many are higher; without the delay."""
        if self._library:
            return self._by_machine(self._library, rate, low_ns, high_ns)
        found, above, count = list[Array](), 0, len(self._drawn.arrivals)
        at_once = _BLOCK if self._twin.workers == 1 else count  # several workers: a query of all traces at a time
        for start in range(0, count, at_once):
            block = slice(start, start + at_once)
            latency = self._latency(self._drawn.arrivals[block] / rate, block)[..., _DISCARD:]
            found.append(latency[(latency > low_ns) & (latency <= high_ns)])
            above += int(np.count_nonzero(latency > high_ns))
        return np.concatenate(found), above

    def _by_machine(self, library: Queues, rate: float, low_ns: float, high_ns: float) -> tuple[Array, int]:
        twin = self._twin
        given = Columns(
            arrivals=self._drawn.arrivals, service_ns=self._service, traces=twin.traces, spells=self._spells,
            length_ns=twin.spells.length_ns,
        )  # fmt: skip
        return library.between(given, twin.workers, rate, _DISCARD, (low_ns, high_ns))

    def _latency(self, arrivals: Array, block: slice) -> Array:
        twin, slowness = self._twin, np.ones(1)
        if self._spells is not None:
            spell = (arrivals / twin.spells.length_ns).astype(np.int64) % _SPELLS
            spell += np.arange(len(arrivals))[:, None] * _SPELLS
            slowness = self._spells[block].take(spell)
        if twin.plain:
            return simulate(arrivals, self._service[block] * slowness, twin.workers)
        sizes = np.asarray(twin.sizes)[self._drawn.kind[0]]
        return twin.latency(arrivals[0], sizes, self._service * slowness) - twin.delay_ns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """What chance decides of each query: its arrival at one query per second, in ns, the number of its size, and the
    uniform number behind its noise; (traces, n), or in columns as ``Columns`` has them."""

    arrivals: Array
    kind: Array
    uniform: Array


@lru_cache(maxsize=8)
def _drawn(shape: tuple[int, int], weights: tuple[float, ...], columns: bool) -> _Drawn:
    drawn: tuple[Array, ...] = (
        np.cumsum(np.random.default_rng(_SEED).exponential(NS, shape), axis=-1),
        np.random.default_rng(_SEED + 3).choice(len(weights), size=shape, p=np.array(weights)).astype(np.int32),
        np.random.default_rng(_SEED + 1).random(shape),
    )
    arrivals, kind, uniform = map(Columns.of_rows, drawn) if columns else drawn
    return _Drawn(arrivals=arrivals, kind=kind, uniform=uniform)


def _service(twin: QueueTwin, drawn: _Drawn, library: Queues | None) -> Array:
    """Service time of each query, or, where queries are split or merged, its factor alone."""
    sizes = np.asarray(twin.sizes)
    first, count = twin.table.spans(sizes)
    mean = twin.table.mean(sizes) if twin.plain else np.ones(len(sizes))
    if library:
        return library.draw_service(drawn.kind, drawn.uniform, (mean, first, count), twin.table.spread)
    place = first[drawn.kind] + (drawn.uniform * count[drawn.kind]).astype(np.int64)
    service: Array = mean[drawn.kind] * twin.table.spread[place]
    return service


def _spell_paths(twin: QueueTwin, traces: int) -> Array | None:
    """Service factors of consecutive spells, (traces, spells); None without spells that end.

    Every other trace has the opposite speeds of the one before it, which leaves less to chance.
    """
    spells = twin.spells
    if spells.log_sd == 0.0 or spells.lasting:
        return None
    shocks = _shocks(-(-traces // 2))
    scaled = np.concatenate((shocks[:, :1], shocks[:, 1:] * math.sqrt(1.0 - spells.keep**2)), axis=1)
    log_factor = spells.log_sd * signal.lfilter([1.0], [1.0, -spells.keep], scaled, axis=1)
    paths: Array = np.exp(np.stack((log_factor, -log_factor), axis=1).reshape(-1, _SPELLS)[:traces])
    return paths


@lru_cache(maxsize=4)
def _shocks(pairs: int) -> Array:
    return np.random.default_rng(_SEED + 2).normal(size=(pairs, _SPELLS))
