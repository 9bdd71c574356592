"""One side of a trial under load: its service table, its twin, its segments and what they say of its LBT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from harness.estimate.lbt import LbtEstimate
from harness.estimate.longrun import QueueTwin
from harness.estimate.matched_twin import CrossingPoint, locate_crossing
from harness.estimate.replay import SegmentObservation
from harness.estimate.search import STEERING_TRACES
from harness.estimate.twin import ServiceTable
from harness.measurement.bench import Stretch
from harness.options import Budget
from harness.record.service import ServiceSamples, queue_twin
from harness.record.side_numbers import lbt_of
from harness.sut.process import SideInfo
from harness.trial import Sla
from optimizations.contract import Dispatch


class Asked(Protocol):
    """What the search needs to know of a trial."""

    @property
    def sla(self) -> Sla: ...
    @property
    def query_sizes(self) -> str: ...


class Load(Protocol):
    """Whatever offers open-loop load to a side: the bench, or a simulation of it."""

    @property
    def trial(self) -> Asked: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def limit_ns(self) -> int: ...
    def open_loop(self, side: str, stretch: Stretch) -> SegmentObservation:
        """Offer one stretch of Poisson arrivals to the side of this name."""


@dataclass(slots=True, kw_only=True)
class Side:
    """State of one side. ``centre_qps`` is where its refined segments lie; 0 when no rate meets the SLA.

    ``time_factor``: how long its refined segments are, in those of the budget; both sides' add up to 2.
    """

    name: str
    info: SideInfo
    workers: int
    dispatch: Dispatch
    service: ServiceSamples | None = None
    table: ServiceTable | None = None
    centre_qps: float = 0.0
    rates_qps: tuple[float, float] = (0.0, 0.0)
    time_factor: float = 1.0
    probes: list[SegmentObservation] = field(default_factory=list)
    refined: list[SegmentObservation] = field(default_factory=list)
    _twin: QueueTwin | None = None
    _estimates: dict[tuple[int, int, frozenset[int] | None], LbtEstimate | None] = field(default_factory=dict)

    def twin(self, bench: Load) -> QueueTwin:
        """The queueing twin of this side under the trial's mix of sizes; one object, since it keeps its long run."""
        if self._twin is None:
            assert self.table is not None
            self._twin = queue_twin(self.table, bench.trial.query_sizes, self.workers, self.dispatch)
        return self._twin

    def estimate(self, bench: Load, quads: set[int] | None = None) -> LbtEstimate | None:
        """LBT from the refined segments of ``quads`` (None: all); None when no rate meets the SLA or too few ran."""
        return self._estimate(bench, self.twin(bench), quads)

    def estimate_so_far(self, bench: Load) -> LbtEstimate | None:
        """The same on few simulated traces: the next segment waits for it."""
        return self._estimate(bench, self.twin(bench).on_traces(STEERING_TRACES), None)

    def crossing_so_far(self, bench: Load) -> CrossingPoint | None:
        """Where that puts the crossing. Half the work: no interval."""
        return locate_crossing(self.refined, self.twin(bench).on_traces(STEERING_TRACES), bench.trial.sla)

    def _estimate(self, bench: Load, twin: QueueTwin, quads: set[int] | None) -> LbtEstimate | None:
        asked = twin.traces, len(self.refined), None if quads is None else frozenset(quads)
        if asked not in self._estimates:
            self._estimates[asked] = lbt_of(self.probes, self.refined, twin, bench.trial.sla, quads)
        return self._estimates[asked]
