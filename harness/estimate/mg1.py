"""The single-server queue with Poisson arrivals (M/G/1), solved by number instead of by simulation. Pure functions.

Pollaczek-Khinchine: the stationary wait of a FIFO M/G/1 queue is a geometric sum of residual service times. Its
transform is inverted on a grid, so the late fraction of a rate has no sampling noise (error about 1e-4 relative).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness.native.waits import compiled

Array = npt.NDArray[Any]
NS = 1e9
_CELLS = 4096
_DAMPING = 20.0
_HIGHEST_LOAD = 1.0 - 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceAtoms:
    """A discrete service time: ``ns`` ascending, ``probability`` summing to 1; both (atoms,)."""

    ns: Array
    probability: Array

    @property
    def mean_ns(self) -> float:
        """Mean service time."""
        return float(self.ns @ self.probability)

    def scaled(self, factor: float) -> ServiceAtoms:
        """Every service time multiplied by ``factor``."""
        return ServiceAtoms(ns=self.ns * factor, probability=self.probability)


def service_atoms(ns: Array, probability: Array) -> ServiceAtoms:
    """Sorted atoms from any order of values; raises ValueError unless values are positive and weights sum to 1."""
    values, weights = np.asarray(ns, dtype=np.float64).ravel(), np.asarray(probability, dtype=np.float64).ravel()
    if values.size == 0 or values.min() <= 0.0 or abs(weights.sum() - 1.0) > 1e-6:
        raise ValueError("service times must be positive and their probabilities must sum to 1")
    order = np.argsort(values)
    return ServiceAtoms(ns=values[order], probability=weights[order] / weights.sum())


def _damped_residual(service: ServiceAtoms, step_ns: float) -> Array:
    """Mass of the residual service time, density (1 - F) / mean, in cells centred on 0, step, 2 step, ..., damped."""
    if library := compiled():
        return library.residual_cells(service.ns, service.probability, step_ns, service.mean_ns, _damping())
    edges = (np.arange(2 * _CELLS) + 0.5) * step_ns
    below = np.concatenate(([0.0], np.cumsum(service.probability * service.ns)))
    mass = np.concatenate(([0.0], np.cumsum(service.probability)))
    index = np.searchsorted(service.ns, edges, side="right")
    mean_of_minimum = below[index] + edges * (1.0 - mass[index])
    return np.asarray(np.diff(mean_of_minimum, prepend=0.0) / service.mean_ns * _damping())


@cache
def _damping() -> Array:
    return np.exp(-_DAMPING * np.arange(2 * _CELLS) / (2 * _CELLS))


class StationaryWait:
    """The wait of a query in the stationary queue, up to a horizon, for any rate."""

    def __init__(self, service: ServiceAtoms, horizon_ns: float) -> None:
        self.service, self.mean_ns, self.step_ns = service, service.mean_ns, horizon_ns / _CELLS
        self.transform = np.fft.rfft(_damped_residual(service, self.step_ns))

    def tail(self, rate_qps: float, t_ns: Array) -> Array:
        """P(wait > t) for each t up to the horizon; 1 for t < 0, and everywhere at load >= 1."""
        load, moments = rate_qps * self.mean_ns / NS, _Moments(self.step_ns, np.asarray(t_ns, dtype=np.float64))
        if load >= _HIGHEST_LOAD:
            return np.ones(np.shape(t_ns))
        return moments.read(edge_tails(self.transform[None], np.array([load]), moments.edges)[0])

    def late_fraction(self, rate_qps: float, limit_ns: float) -> float:
        """P(wait + service > limit), for a limit up to the horizon; 1 at load >= 1."""
        return float(LateAt([self], [np.array([limit_ns])])([rate_qps])[0][0])


def edge_tails(transforms: Array, loads: Array, edges: int) -> Array:
    """P(wait > x) just above 0 and at the upper edges of the first cells, so many in all; (queues, edges).

    transforms: (queues, frequencies), of the residual service time in cells; loads: (queues,), below 1.
    """
    ratio = (1.0 - loads)[:, None] / (1.0 - loads[:, None] * transforms)
    wait = np.fft.irfft(ratio, 2 * _CELLS)
    if library := compiled():
        return library.edge_tails(wait, _damping(), loads, edges)
    tail = np.empty((loads.size, edges))
    tail[:, 0] = loads
    np.subtract(1.0, np.cumsum(wait[:, : edges - 1] / _damping()[: edges - 1], axis=1), out=tail[:, 1:])
    return np.clip(tail, 0.0, 1.0, out=tail)


class _Moments:
    """Where among the edges of cells each of these moments lies. edges: how many of them are needed."""

    def __init__(self, step_ns: float, t_ns: Array) -> None:
        # The tail is known just above 0, where it is the load, and to second order at the upper edge of every cell.
        edges = np.concatenate(([0.0], (np.arange(2 * _CELLS) + 0.5) * step_ns))
        past = t_ns < 0.0
        cell = np.clip(t_ns / step_ns + 0.5, 0, 2 * _CELLS - 1).astype(np.int64)
        cell -= (edges[cell] > t_ns) & ~past
        cell += edges[cell + 1] <= t_ns
        self.edges = int(cell.max(initial=0)) + 2
        self._beyond, self._width = t_ns - edges[cell], np.diff(edges[: self.edges])
        self._cell = np.where(past, -1, cell).astype(np.int32)

    def read(self, tail: Array) -> Array:
        """The tail at each moment, linear between the edges in the form of ``np.interp``; 1 before 0."""
        if library := compiled():
            return library.read_tail(tail, self._width, self._cell, self._beyond)
        cell = np.maximum(self._cell, 0)
        found: Array = (np.diff(tail) / self._width)[cell] * self._beyond + tail[cell]
        return np.where(self._cell < 0, 1.0, found)


class LateAt:
    """P(wait + service > limit) in several queues, each at its own limits, for one set of rates after the other.

    limits_ns: (limits,) of each queue, up to its horizon.
    """

    def __init__(self, queues: Sequence[StationaryWait], limits_ns: Sequence[Array]) -> None:
        self._queues, self._transforms = queues, np.stack([queue.transform for queue in queues])
        self._moments = [
            _Moments(queue.step_ns, limits[:, None] - queue.service.ns)
            for queue, limits in zip(queues, limits_ns, strict=True)
        ]
        self._limits = [limits.size for limits in limits_ns]

    def __call__(self, rates_qps: Sequence[float]) -> list[Array]:
        """(limits,) for each queue at its rate; 1 at load >= 1."""
        loads = np.array([rate * queue.mean_ns / NS for rate, queue in zip(rates_qps, self._queues, strict=True)])
        stable = loads < _HIGHEST_LOAD
        tails = iter(self._edge_tails(loads, stable) if stable.any() else ())
        found = []
        for queue, moments, limits, is_stable in zip(self._queues, self._moments, self._limits, stable, strict=True):
            each = moments.read(next(tails)) if is_stable else np.ones((limits, queue.service.ns.size))
            found.append(np.asarray(each @ queue.service.probability))
        return found

    def _edge_tails(self, loads: Array, stable: Array) -> list[Array]:
        needed = [moments.edges for moments, is_stable in zip(self._moments, stable, strict=True) if is_stable]
        transforms = self._transforms if stable.all() else self._transforms[stable]
        rows = edge_tails(transforms, loads[stable], max(needed))
        return [row[:edges] for row, edges in zip(rows, needed, strict=True)]


def late_fraction(service: ServiceAtoms, rate_qps: float, limit_ns: float) -> float:
    """P(wait + service > limit) in the stationary queue; 1 at load >= 1."""
    return StationaryWait(service, limit_ns).late_fraction(rate_qps, limit_ns)


def lbt_qps(service: ServiceAtoms, limit_ns: float, allowed: float) -> float:
    """Largest rate at which the late fraction is at most ``allowed``; 0 if even an idle server is late more often."""
    if float(service.probability[service.ns > limit_ns].sum()) >= allowed:
        return 0.0
    late, capacity = LateAt([StationaryWait(service, limit_ns)], [np.array([limit_ns])]), NS / service.mean_ns
    low, high = 1e-6 * capacity, _HIGHEST_LOAD * capacity

    @cache
    def excess(log_rate: float) -> float:
        return float(late([float(np.exp(log_rate))])[0][0]) - allowed

    if excess(float(np.log(high))) <= 0.0:
        return high
    return float(np.exp(optimize.brentq(excess, np.log(low), np.log(high), xtol=1e-6)))


def log_slope(service: ServiceAtoms, rate_qps: float, limit_ns: float) -> float:
    """d log(late fraction) / d log(rate) at a rate, by a central difference of 1 %."""
    high, low = (late_fraction(service, rate_qps * f, limit_ns) for f in (1.005, 0.995))
    return float((np.log(max(high, 1e-300)) - np.log(max(low, 1e-300))) / np.log(1.005 / 0.995))


def relaxation_ns(service: ServiceAtoms, rate_qps: float) -> float:
    """Time constant with which the queue forgets how it started; inf at load >= 1.

    The inverse of max over theta of theta - rate (E exp(theta S) - 1), the decay rate of the busy period (Abate & Whitt
    1997, "Asymptotics for M/G/1 low-priority waiting-time tail probabilities", section 2); for exponential service
    it is 1 / (sqrt(mu) - sqrt(rate))^2.
    """
    mean = service.mean_ns
    if rate_qps * mean / NS >= 1.0:
        return float("inf")
    decay, ceiling = _decay(service, rate_qps)
    best = optimize.minimize_scalar(lambda theta: -decay(theta), bounds=(0.0, ceiling), method="bounded")
    return mean / max(-float(best.fun), 1e-12)


def forgets_within(service: ServiceAtoms, rate_qps: float, time_ns: float) -> bool:
    """Whether ``relaxation_ns`` is surely shorter: by the decay at some theta, which the greatest is not below.

    The best theta is -log(load) for a fixed service, and that of the parabola through the first two moments near load
    1; variable service brings it down. Half of the decay that is found has to do.
    """
    mean = service.mean_ns
    load = rate_qps * mean / NS
    if not 0.0 < load < 1.0:
        return False
    decay, ceiling = _decay(service, rate_qps)
    second = float((service.ns / mean) ** 2 @ service.probability)
    theta = min((1.0 - load) / (load * second), -math.log(load), ceiling)
    return mean <= 0.5 * max(decay(theta), decay(theta / 2.0), decay(theta / 4.0)) * time_ns


def _decay(service: ServiceAtoms, rate_qps: float) -> tuple[Callable[[float], float], float]:
    """theta - rate (E exp(theta S) - 1) in units of the mean service, and the largest theta for it."""
    scaled, load = service.ns / service.mean_ns, rate_qps * service.mean_ns / NS

    def decay(theta: float) -> float:
        return -float(load * (np.exp(theta * scaled) @ service.probability - 1.0) - theta)

    return decay, 700.0 / float(scaled[-1])
