"""The systems of known truth: service by size, noise, workers, a wavering host, stalls, transport delay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

from harness.estimate import mg1
from harness.estimate.longrun import QueueTwin
from harness.estimate.twin import ServiceTable
from harness.traffic.query_sizes import mean_size, pmf
from harness.trial import Sla

Array = npt.NDArray[Any]
MS = 1e6
MEAN_SERVICE_MS = 5.0
_BANDS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulated comparison. Service of a query: mean of its size x noise of its own x speed of the host.

    sizes: distribution of query sizes (``traffic.query_sizes``). slack: limit over the mean service of 5 ms. noise: sd
    of the log of a query's own factor ("exponential" noise of sd 1 makes M/M/1). host_sd, host_memory_s: the host's
    log speed is an Ornstein-Uhlenbeck process that both sides share. stall_share of the queries take ``stall_ms``
    more. delay_ms: added to every latency, outside the queue. gain: how many times faster the candidate works.
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

    def truth_qps(self, gain: float = 1.0) -> float:
        """LBT on a host of speed 1: exact for one worker, else from the twin's long simulation."""
        return self._system(gain).lbt_qps(self.sla)

    def _system(self, gain: float) -> QueueTwin:
        table = pmf(self.sizes)
        sizes = np.flatnonzero(table)
        factors = _exponential_bands() if self.exponential else _log_normal_bands(self.noise)
        if self.stall_share:
            return _Stalled(self, gain, sizes, table[sizes], factors)
        service = ServiceTable(sizes=sizes.astype(float), mean_ns=self.mean_ns(sizes, gain), spread=factors)
        return QueueTwin(
            table=service, sizes=sizes, probability=table[sizes], workers=self.workers, delay_ns=self.delay_ms * MS
        )


def _exponential_bands() -> Array:
    """Means of an exponential variable of mean 1 over bands of equal probability."""
    left = 1.0 - np.arange(_BANDS) / _BANDS
    integral = np.append(left * np.log(left) + 1.0 - left, 1.0)
    return np.asarray(np.diff(integral) * _BANDS)


def _log_normal_bands(sd: float) -> Array:
    factors = np.exp(sd * sps.norm.ppf((np.arange(_BANDS) + 0.5) / _BANDS))
    return np.asarray(factors / factors.mean())


class _Stalled(QueueTwin):
    """A system of one worker with rare stalls, as a mixture of atoms."""

    def __init__(self, cell: Cell, gain: float, sizes: Array, probability: Array, factors: Array) -> None:
        plain = np.outer(cell.mean_ns(sizes, gain), factors).ravel()
        weight = np.repeat(probability, factors.size) / factors.size
        share = cell.stall_share
        both = np.concatenate([plain, plain + cell.stall_ms * MS])
        self._atoms = mg1.service_atoms(both, np.concatenate([(1.0 - share) * weight, share * weight]))
        self._delay_ns = cell.delay_ms * MS

    def lbt_qps(self, sla: Sla, scale: float = 1.0) -> float:
        return mg1.lbt_qps(self._atoms.scaled(scale), sla.limit_ms * MS - self._delay_ns, sla.late_fraction)


def host_speed(rng: np.random.Generator, cell: Cell, seconds: float, step_s: float = 0.05) -> Array:
    """Service factor of the host in steps of ``step_s``: exp of a stationary Ornstein-Uhlenbeck process."""
    steps = math.ceil(seconds / step_s) + 1
    if cell.host_sd == 0.0:
        return np.ones(steps)
    keep = math.exp(-step_s / cell.host_memory_s)
    shocks = rng.normal(0.0, cell.host_sd * math.sqrt(1.0 - keep**2), steps)
    log_speed, level = np.empty(steps), rng.normal(0.0, cell.host_sd)
    for i, shock in enumerate(shocks.tolist()):
        log_speed[i] = level
        level = keep * level + shock
    return np.exp(log_speed)


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
    Cell(name="stalls", sizes=_HEAVY, noise=0.05, stall_share=0.002, stall_ms=30.0),
    Cell(name="waver5", sizes=_HEAVY, noise=0.15, host_sd=0.05),
    Cell(name="waver15", sizes=_HEAVY, noise=0.15, host_sd=0.15, host_memory_s=30.0),
    Cell(name="waver30", sizes=_HEAVY, slack=10.0, noise=0.15, host_sd=0.30, host_memory_s=60.0),
    Cell(name="waver30-fast", sizes=_HEAVY, slack=10.0, noise=0.15, host_sd=0.30, host_memory_s=2.0),
    Cell(name="gain5-waver15", sizes=_HEAVY, noise=0.15, host_sd=0.15, host_memory_s=30.0, gain=5.0),
)
"""The table of docs/measuring.md. A wavering host has no one LBT: there the ratio alone has a truth."""
