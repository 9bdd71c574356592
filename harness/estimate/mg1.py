"""The single-server queue with Poisson arrivals (M/G/1), solved by number instead of by simulation. Pure functions.

Pollaczek-Khinchine: the stationary wait of a FIFO M/G/1 queue is a geometric sum of residual service times. Its
transform is inverted on a grid, so the late fraction of a rate has no sampling noise (error about 1e-4 relative).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

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


def _residual_cells(service: ServiceAtoms, step_ns: float, cells: int) -> Array:
    """Mass of the residual service time, density (1 - F) / mean, in cells centred on 0, step, 2 step, ..."""
    edges = (np.arange(cells) + 0.5) * step_ns
    below = np.concatenate(([0.0], np.cumsum(service.probability * service.ns)))
    mass = np.concatenate(([0.0], np.cumsum(service.probability)))
    index = np.searchsorted(service.ns, edges, side="right")
    mean_of_minimum = below[index] + edges * (1.0 - mass[index])
    return np.diff(mean_of_minimum, prepend=0.0) / service.mean_ns


class StationaryWait:
    """The wait of a query in the stationary queue, up to a horizon, for any rate."""

    def __init__(self, service: ServiceAtoms, horizon_ns: float) -> None:
        self._service, self._step, self._cells = service, horizon_ns / _CELLS, 2 * _CELLS
        self._damp = np.exp(-_DAMPING * np.arange(self._cells) / self._cells)
        self._transform = np.fft.rfft(_residual_cells(service, self._step, self._cells) * self._damp)
        # The tail is known just above 0, where it is the load, and to second order at the upper edge of every cell.
        self._edges = np.concatenate(([0.0], (np.arange(self._cells) + 0.5) * self._step))

    def tail(self, rate_qps: float, t_ns: Array) -> Array:
        """P(wait > t) for each t up to the horizon; 1 for t < 0, and everywhere at load >= 1."""
        load, t = rate_qps * self._service.mean_ns / NS, np.asarray(t_ns, dtype=np.float64)
        if load >= _HIGHEST_LOAD:
            return np.ones(t.shape)
        wait = np.fft.irfft((1.0 - load) / (1.0 - load * self._transform), self._cells) / self._damp
        tail = np.concatenate(([load], 1.0 - np.cumsum(wait)))
        return np.where(t < 0.0, 1.0, np.interp(t, self._edges, np.clip(tail, 0.0, 1.0)))

    def late_fraction(self, rate_qps: float, limit_ns: float) -> float:
        """P(wait + service > limit), for a limit up to the horizon; 1 at load >= 1."""
        return float(self.late_fractions(rate_qps, np.array([limit_ns]))[0])

    def late_fractions(self, rate_qps: float, limits_ns: Array) -> Array:
        """``late_fraction`` for many limits up to the horizon; (limits,)."""
        tails = self.tail(rate_qps, limits_ns[:, None] - self._service.ns)
        return np.asarray(tails @ self._service.probability)


def late_fraction(service: ServiceAtoms, rate_qps: float, limit_ns: float) -> float:
    """P(wait + service > limit) in the stationary queue; 1 at load >= 1."""
    return StationaryWait(service, limit_ns).late_fraction(rate_qps, limit_ns)


def lbt_qps(service: ServiceAtoms, limit_ns: float, allowed: float) -> float:
    """Largest rate at which the late fraction is at most ``allowed``; 0 if even an idle server is late more often."""
    if float(service.probability[service.ns > limit_ns].sum()) >= allowed:
        return 0.0
    queue, capacity = StationaryWait(service, limit_ns), NS / service.mean_ns
    low, high = 1e-6 * capacity, _HIGHEST_LOAD * capacity

    def excess(log_rate: float) -> float:
        return queue.late_fraction(float(np.exp(log_rate)), limit_ns) - allowed

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
    load = rate_qps * mean / NS
    if load >= 1.0:
        return float("inf")
    scaled, rate = service.ns / mean, load

    def negative_decay(theta: float) -> float:
        return float(rate * (np.exp(theta * scaled) @ service.probability - 1.0) - theta)

    ceiling = 700.0 / float(scaled[-1])
    best = optimize.minimize_scalar(negative_decay, bounds=(0.0, ceiling), method="bounded")
    return mean / max(-float(best.fun), 1e-12)
