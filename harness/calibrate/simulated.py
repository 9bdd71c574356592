"""A bench whose systems are simulated: the real search, quads and estimates run on it unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.calibrate.cells import HOST_STEP_S, MS, Cell, host_speed
from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import ServiceTable, fit_service_table
from harness.measurement.bench import Stretch, trace_seed
from harness.options import Budget
from harness.record.service import service_counts
from harness.traffic.query_sizes import draw, pmf
from harness.trial import Sla

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTrial:
    """What the search asks of a trial."""

    sla: Sla
    query_sizes: str


@dataclass(slots=True, kw_only=True)
class SimulatedBench:
    """Offers load to simulated systems named by their gain; time passes as it would (both sides share the host)."""

    cell: Cell
    budget: Budget
    seed: int
    gains: dict[str, float]
    now_s: float = 0.0
    _speed: Array = field(default_factory=lambda: np.ones(1))
    _draws: int = 0

    def __post_init__(self) -> None:
        self._speed = host_speed(np.random.default_rng([self.seed, 1]), self.cell, 4.0 * self.budget.seconds + 60.0)

    @property
    def trial(self) -> SimulatedTrial:
        """SLA and query sizes of the cell."""
        return SimulatedTrial(sla=self.cell.sla, query_sizes=self.cell.sizes)

    @property
    def limit_ns(self) -> int:
        """The SLA's latency limit."""
        return int(self.cell.sla.limit_ms * 1e6)

    def _rng(self) -> np.random.Generator:
        self._draws += 1
        return np.random.default_rng([self.seed, 2, self._draws])

    def _service(self, side: str, sizes: Array, at_ns: Array) -> Array:
        rng = self._rng()
        factor = self.cell.noise_factors(rng, sizes.size)
        stalls = (rng.random(sizes.size) < self.cell.stall_share) * self.cell.stall_ms * MS
        step = ((self.now_s + at_ns / 1e9) / HOST_STEP_S).astype(np.int64) % self._speed.size
        service: Array = self.cell.mean_ns(sizes, self.gains[side]) * factor * self._speed[step] + stalls
        return service

    def closed_table(self, side: str) -> ServiceTable:
        """The service table of a closed loop, with as many queries as the real program asks."""
        repeats, table = self.budget.service_repeats, pmf(self.cell.sizes)
        counts = service_counts(repeats)
        fixed = np.repeat(list(counts), list(counts.values())) if np.count_nonzero(table) > 1 else np.zeros(0, np.int64)
        sizes = np.concatenate([fixed, draw(table, self._rng().random(4 * repeats))])
        at = np.cumsum(self.cell.mean_ns(sizes, self.gains[side]))
        latency = self._service(side, sizes, at) + self.cell.delay_ms * MS
        self.now_s += float(at[-1]) / 1e9
        return fit_service_table(sizes, latency)

    def open_loop(self, side: str, stretch: Stretch) -> SegmentObservation:
        """One stretch: the trace comes from purpose and index (both sides run the same), the noise is the side's."""
        self.now_s += self.budget.settle_s
        rng = np.random.default_rng(trace_seed(self.seed, stretch.purpose, stretch.index) % 2**63)
        count = int(rng.poisson(stretch.rate_qps * stretch.seconds))
        unit = np.sort(rng.random(max(count, 1)))
        sizes, planned = draw(pmf(self.cell.sizes), rng.random(unit.size)), np.rint(unit * stretch.seconds * 1e9)
        service = self._service(side, sizes, planned)
        latency = self.cell.latency(planned, service)
        self.now_s += stretch.seconds
        late = np.cumsum((latency > self.limit_ns) & (planned >= 1e9))
        aborted = 0 <= stretch.max_late < late[-1] or 0 < stretch.max_age_ns < latency.max()
        return SegmentObservation(
            offered_qps=stretch.rate_qps,
            trace_id=f"{stretch.purpose}/{stretch.index}",
            quad=stretch.quad,
            planned_ns=planned,
            sizes=sizes,
            latency_ns=latency,
            duration_s=stretch.seconds,
            aborted=bool(aborted),
        )
