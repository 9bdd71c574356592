"""The true LBT of simulated systems: exact where a formula has it, else of a long simulation."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy import stats as sps

from harness.calibrate.cells import HOST_STEP_S, MEAN_SERVICE_MS, MS, Cell, host_steps, wavering
from harness.estimate import mg1
from harness.traffic.query_sizes import pmf

Array = npt.NDArray[Any]
_BANDS = 4000
_BATCHES, _TRACES, _RAMP_QUERIES = 5, (200, 10_000), 500
_LOWEST_LOAD = 0.1


def truth_qps(cell: Cell, gain: float = 1.0) -> float:
    """LBT of a steady cell: exact for one worker on a host of speed 1, else of a simulation of 10^7 queries."""
    if cell.workers > 1 or cell.host_sd > 0.0 or cell.looked_up > 0.0:
        return simulated_lbt(cell, gain)
    table = pmf(cell.sizes)
    sizes = np.flatnonzero(table)
    mean, share = cell.mean_ns(sizes, gain), table[sizes]
    factors = _exponential_bands() if cell.exponential else _log_normal_bands(cell.noise)
    work, weight = np.outer(mean, factors).ravel(), np.repeat(share, factors.size) / factors.size
    atoms = mg1.service_atoms(
        np.concatenate([work, work + cell.stall_ms * MS]),
        np.concatenate([(1.0 - cell.stall_share) * weight, cell.stall_share * weight]),
    )
    return mg1.lbt_qps(atoms, (cell.sla.limit_ms - cell.delay_ms) * MS, cell.sla.late_fraction)


@lru_cache
def simulated_lbt(cell: Cell, gain: float) -> float:
    """LBT from 1,000 simulated traces of 10,000 queries, the same at every rate that is tried."""
    capacity, batches = _capacity_qps(cell, gain), [_batch(cell, gain, i) for i in range(_BATCHES)]

    def excess(log_rate: float) -> float:
        late = []
        for unit, service, shocks in batches:
            arrivals = unit / math.exp(log_rate)
            if shocks.size:
                speeds = np.exp(wavering(cell, shocks[:, : host_steps(float(arrivals[:, -1].max()) / 1e9)]))
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
    steps = host_steps(float(unit[:, -1].max()) / 1e9 / lowest_qps) if cell.host_sd > 0.0 else 0
    return unit, service, np.random.default_rng((8, number)).standard_normal((_TRACES[0], steps))


def _exponential_bands() -> Array:
    """Means of an exponential variable of mean 1 over bands of equal probability."""
    left = 1.0 - np.arange(_BANDS) / _BANDS
    integral = np.append(left * np.log(left) + 1.0 - left, 1.0)
    return np.asarray(np.diff(integral) * _BANDS)


def _log_normal_bands(sd: float) -> Array:
    factors = np.exp(sd * sps.norm.ppf((np.arange(_BANDS) + 0.5) / _BANDS))
    return np.asarray(factors / factors.mean())
