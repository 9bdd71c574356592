"""Simulated systems: service by size, noise, workers, a wavering host, stalls, transport delay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from harness.estimate.twin import simulate
from harness.traffic.query_sizes import mean_size
from harness.trial import Sla

Array = npt.NDArray[Any]
MS = 1e6
MEAN_SERVICE_MS = 5.0
HOST_STEP_S = 0.05
SHORTEST_SEGMENT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulated comparison. Service of a query: mean of its size x noise of its own x speed of the host.

    sizes: distribution of query sizes (``traffic.query_sizes``). slack: limit over the mean service of 5 ms. noise: sd
    of the log of a query's own factor ("exponential" noise of sd 1 makes M/M/1). host_sd, host_memory_s: the host's
    log speed is an Ornstein-Uhlenbeck process that both sides share. stall_share of the queries take ``stall_ms``
    more. delay_ms: added to every latency, outside the queue. looked_up: share of the service that the one worker does
    for the next query while it computes this one (``opt=[stage]``); 0: it works on one query at a time. gain: how many
    times faster the candidate works.
    """

    name: str
    sizes: str = "fixed:1"
    slack: float = 5.0
    noise: float = 0.0
    exponential: bool = False
    workers: int = 1
    host_sd: float = 0.0
    host_memory_s: float = 10.0
    stall_share: float = 0.0
    stall_ms: float = 0.0
    delay_ms: float = 0.0
    looked_up: float = 0.0
    gain: float = 1.0

    @property
    def sla(self) -> Sla:
        """p99 within slack x mean service."""
        return Sla(limit_ms=self.slack * MEAN_SERVICE_MS)

    def mean_ns(self, sizes: Array, gain: float = 1.0) -> Array:
        """Mean service by size: in proportion to the size plus a tenth of the mean size."""
        mean = mean_size(self.sizes)
        scaled: Array = MEAN_SERVICE_MS * MS / gain * (np.asarray(sizes) + 0.1 * mean) / (1.1 * mean)
        return scaled

    def noise_factors(self, rng: np.random.Generator, count: int) -> Array:
        """Mean-1 factors of single queries."""
        if self.exponential:
            return rng.exponential(1.0, count)
        return np.exp(rng.normal(-(self.noise**2) / 2, self.noise, count))

    def latency(self, arrivals_ns: Array, service_ns: Array) -> Array:
        """Latency of every query of independent traces (..., n) that start empty."""
        if self.looked_up > 0.0:
            ahead = service_ns * self.looked_up
            return staged_latency(arrivals_ns, ahead, service_ns - ahead) + self.delay_ms * MS
        return simulate(arrivals_ns, service_ns, self.workers) + self.delay_ms * MS

    @property
    def steady(self) -> bool:
        """Whether a side has one LBT: its host does not waver, or so fast that it counts as the system's own."""
        return self.host_sd == 0.0 or self.host_memory_s < SHORTEST_SEGMENT_S


def staged_latency(arrivals_ns: Array, ahead_ns: Array, compute_ns: Array) -> Array:
    """Latency with one worker that looks the next query up while it computes this one; all (..., n).

    A query is taken when it has arrived and the one before it has the worker; it is computed when it is looked up and
    the one before it is answered. Two stations in a row with one place between them (``harness.sut.turns``).
    """
    given = np.broadcast_arrays(arrivals_ns, ahead_ns, compute_ns)
    if given[0].ndim == 1:
        return _staged_one_by_one(*(x.tolist() for x in given))
    arrivals, ahead, compute = (np.ascontiguousarray(np.moveaxis(x, -1, 0), dtype=np.float64) for x in given)
    done, has_worker = np.full_like(arrivals[0], -np.inf), np.full_like(arrivals[0], -np.inf)
    latency = np.empty(arrivals.shape)
    for k in range(len(latency)):
        taken = np.maximum(arrivals[k], has_worker)
        has_worker = np.maximum(taken, done)
        done = np.maximum(taken + ahead[k], done) + compute[k]
        latency[k] = done - arrivals[k]
    return np.moveaxis(latency, 0, -1)


def _staged_one_by_one(arrivals: list[float], ahead: list[float], compute: list[float]) -> Array:
    """The same for one trace: plain floats take the same steps in a twentieth of the time."""
    done, has_worker, latency = -math.inf, -math.inf, []
    for arrival, looked_up, computed in zip(arrivals, ahead, compute, strict=True):
        taken = max(arrival, has_worker)
        has_worker = max(taken, done)
        done = max(taken + looked_up, done) + computed
        latency.append(done - arrival)
    return np.array(latency)


def host_speed(rng: np.random.Generator, cell: Cell, seconds: float) -> Array:
    """Service factor of the host in steps of ``HOST_STEP_S``: exp of a stationary Ornstein-Uhlenbeck process."""
    if cell.host_sd == 0.0:
        return np.ones(host_steps(seconds))
    speed: Array = np.exp(wavering(cell, rng.standard_normal(host_steps(seconds))))
    return speed


def host_steps(seconds: float) -> int:
    return math.ceil(seconds / HOST_STEP_S) + 1


def wavering(cell: Cell, shocks: Array) -> Array:
    """The process in logs from its standard normal shocks (..., steps): AR(1) that starts stationary."""
    keep = math.exp(-HOST_STEP_S / cell.host_memory_s)
    scale = np.full(shocks.shape[-1], cell.host_sd * math.sqrt(1.0 - keep**2))
    scale[0] = cell.host_sd
    log_speed: Array = signal.lfilter([1.0], [1.0, -keep], scale * shocks, axis=-1)
    return log_speed
