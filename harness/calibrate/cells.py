"""The systems of known truth: service by size, noise, workers, a wavering host, stalls, transport delay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, signal
from scipy import stats as sps

from harness.estimate import mg1
from harness.estimate.twin import simulate
from harness.traffic.query_sizes import mean_size, pmf
from harness.trial import Sla

Array = npt.NDArray[Any]
MS = 1e6
MEAN_SERVICE_MS = 5.0
HOST_STEP_S = 0.05
SHORTEST_SEGMENT_S = 1.0
_BANDS = 4000
_BATCHES, _TRACES, _RAMP_QUERIES = 5, (200, 10_000), 500
_LOWEST_LOAD = 0.1


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

    def truth_qps(self, gain: float = 1.0) -> float:
        """LBT of a steady cell: exact for one worker on a host of speed 1, else of a simulation of 10^7 queries."""
        if self.workers > 1 or self.host_sd > 0.0 or self.looked_up > 0.0:
            return simulated_lbt(self, gain)
        table = pmf(self.sizes)
        sizes = np.flatnonzero(table)
        mean, share = self.mean_ns(sizes, gain), table[sizes]
        factors = _exponential_bands() if self.exponential else _log_normal_bands(self.noise)
        work, weight = np.outer(mean, factors).ravel(), np.repeat(share, factors.size) / factors.size
        atoms = mg1.service_atoms(
            np.concatenate([work, work + self.stall_ms * MS]),
            np.concatenate([(1.0 - self.stall_share) * weight, self.stall_share * weight]),
        )
        return mg1.lbt_qps(atoms, (self.sla.limit_ms - self.delay_ms) * MS, self.sla.late_fraction)


def staged_latency(arrivals_ns: Array, ahead_ns: Array, compute_ns: Array) -> Array:
    """Latency with one worker that looks the next query up while it computes this one; all (..., n).

    A query is taken when it has arrived and the one before it has the worker; it is computed when it is looked up and
    the one before it is answered. Two stations in a row with one place between them (``harness.sut.turns``).
    """
    given = np.broadcast_arrays(arrivals_ns, ahead_ns, compute_ns)
    arrivals, ahead, compute = (np.ascontiguousarray(np.moveaxis(x, -1, 0), dtype=np.float64) for x in given)
    done, has_worker = np.full_like(arrivals[0], -np.inf), np.full_like(arrivals[0], -np.inf)
    latency = np.empty(arrivals.shape)
    for k in range(len(latency)):
        taken = np.maximum(arrivals[k], has_worker)
        has_worker = np.maximum(taken, done)
        done = np.maximum(taken + ahead[k], done) + compute[k]
        latency[k] = done - arrivals[k]
    return np.moveaxis(latency, 0, -1)


@lru_cache
def simulated_lbt(cell: Cell, gain: float) -> float:
    """LBT from 1,000 simulated traces of 10,000 queries, the same at every rate that is tried."""
    capacity, batches = _capacity_qps(cell, gain), [_batch(cell, gain, i) for i in range(_BATCHES)]

    def excess(log_rate: float) -> float:
        late = []
        for unit, service, shocks in batches:
            arrivals = unit / math.exp(log_rate)
            if shocks.size:
                speeds = np.exp(_wavering(cell, shocks[:, : _host_steps(float(arrivals[:, -1].max()) / 1e9)]))
                service = service * np.take_along_axis(speeds, (arrivals / 1e9 / HOST_STEP_S).astype(np.int64), axis=1)
            latency = cell.latency(arrivals, service)[:, _RAMP_QUERIES:]
            late.append(np.mean(latency > cell.sla.limit_ms * MS))
        return float(np.mean(late)) - cell.sla.late_fraction

    lowest, highest = math.log(_LOWEST_LOAD * capacity), math.log(0.99 * capacity)
    return math.exp(float(optimize.brentq(excess, lowest, highest, xtol=1e-4)))


def _capacity_qps(cell: Cell, gain: float) -> float:
    """With a stage before the computation, the slower one of the two is the bound."""
    return cell.workers * gain * 1000.0 / MEAN_SERVICE_MS / max(cell.looked_up, 1.0 - cell.looked_up)


def _batch(cell: Cell, gain: float, number: int) -> tuple[Array, Array, Array]:
    """Arrivals at one query per second and service times on a host of speed 1, both (traces, queries), in ns; standard
    normal shocks of the host, (traces, steps) at the lowest rate, empty where it is steady."""
    rng, table = np.random.default_rng((7, number)), pmf(cell.sizes)
    unit = np.cumsum(rng.exponential(1e9, _TRACES), axis=1)
    sizes = rng.choice(table.size, _TRACES, p=table)
    service = cell.mean_ns(sizes, gain) * cell.noise_factors(rng, sizes.size).reshape(sizes.shape)
    service += (rng.random(_TRACES) < cell.stall_share) * cell.stall_ms * MS
    lowest_qps = _LOWEST_LOAD * _capacity_qps(cell, gain)
    steps = _host_steps(float(unit[:, -1].max()) / 1e9 / lowest_qps) if cell.host_sd > 0.0 else 0
    return unit, service, np.random.default_rng((8, number)).standard_normal((_TRACES[0], steps))


def _exponential_bands() -> Array:
    """Means of an exponential variable of mean 1 over bands of equal probability."""
    left = 1.0 - np.arange(_BANDS) / _BANDS
    integral = np.append(left * np.log(left) + 1.0 - left, 1.0)
    return np.asarray(np.diff(integral) * _BANDS)


def _log_normal_bands(sd: float) -> Array:
    factors = np.exp(sd * sps.norm.ppf((np.arange(_BANDS) + 0.5) / _BANDS))
    return np.asarray(factors / factors.mean())


def host_speed(rng: np.random.Generator, cell: Cell, seconds: float) -> Array:
    """Service factor of the host in steps of ``HOST_STEP_S``: exp of a stationary Ornstein-Uhlenbeck process."""
    if cell.host_sd == 0.0:
        return np.ones(_host_steps(seconds))
    speed: Array = np.exp(_wavering(cell, rng.standard_normal(_host_steps(seconds))))
    return speed


def _host_steps(seconds: float) -> int:
    return math.ceil(seconds / HOST_STEP_S) + 1


def _wavering(cell: Cell, shocks: Array) -> Array:
    """The process in logs from its standard normal shocks (..., steps): AR(1) that starts stationary."""
    keep = math.exp(-HOST_STEP_S / cell.host_memory_s)
    scale = np.full(shocks.shape[-1], cell.host_sd * math.sqrt(1.0 - keep**2))
    scale[0] = cell.host_sd
    log_speed: Array = signal.lfilter([1.0], [1.0, -keep], scale * shocks, axis=-1)
    return log_speed


_HEAVY = "heavy"
CELLS: tuple[Cell, ...] = (
    Cell(name="md1-s2", slack=2.0, noise=0.05),
    Cell(name="md1-s5", noise=0.05),
    Cell(name="md1-s5-n15", noise=0.15),
    Cell(name="md1-s5-n30", noise=0.30),
    Cell(name="md1-s20-n15", slack=20.0, noise=0.15),
    Cell(name="md1-s40-n15", slack=40.0, noise=0.15),
    Cell(name="mm1-s10", slack=10.0, exponential=True),
    Cell(name="heavy-s5", sizes=_HEAVY, noise=0.05),
    Cell(name="heavy-s5-n15", sizes=_HEAVY, noise=0.15),
    Cell(name="heavy-s5-n30", sizes=_HEAVY, noise=0.30),
    Cell(name="heavy-s10-n15", sizes=_HEAVY, slack=10.0, noise=0.15),
    Cell(name="heavy-s20-n30", sizes=_HEAVY, slack=20.0, noise=0.30),
    Cell(name="md2-s5-n15", noise=0.15, workers=2),
    Cell(name="delay", sizes=_HEAVY, noise=0.05, delay_ms=1.0),
    Cell(name="stage10", sizes=_HEAVY, noise=0.15, looked_up=0.1),
    Cell(name="stage40", sizes=_HEAVY, noise=0.15, looked_up=0.4),
    Cell(name="stalls", sizes=_HEAVY, noise=0.05, stall_share=0.002, stall_ms=30.0),
    Cell(name="spells6", sizes=_HEAVY, noise=0.15, host_sd=0.06, host_memory_s=0.4),
    Cell(name="waver5", sizes=_HEAVY, noise=0.15, host_sd=0.05),
    Cell(name="waver15", sizes=_HEAVY, noise=0.15, host_sd=0.15, host_memory_s=30.0),
    Cell(name="waver30", sizes=_HEAVY, slack=10.0, noise=0.15, host_sd=0.30, host_memory_s=60.0),
    Cell(name="waver30-fast", sizes=_HEAVY, slack=10.0, noise=0.15, host_sd=0.30, host_memory_s=2.0),
    Cell(name="gain5-waver15", sizes=_HEAVY, noise=0.15, host_sd=0.15, host_memory_s=30.0, gain=5.0),
)
"""The table of docs/measuring.md. A host that wavers slowly has no one LBT: there the ratio alone has a truth."""
