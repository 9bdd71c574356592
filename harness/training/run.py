"""A training trial on its way: what is trained, where its files lie, what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.estimate.parity import TensorParity
from harness.measurement.preparation import CANDIDATE
from harness.sut.system_process import SideInfo
from harness.training.bench import TrainingBench
from harness.training.pacing import Pacing
from harness.training.quads import TrainingLog
from harness.training.seed_outcome import SeedsSeen
from harness.training.spec import TrainingPlan
from harness.training.target import Target

ORIGIN = "origin"
"""The process that makes what both sides begin from, and trains plainly in other orders."""


@dataclass(slots=True, kw_only=True)
class TrainingRun:
    """A trial on its way: what is trained, where its files lie, and what was seen."""

    what: TrainingPlan
    folder: Path
    bench: TrainingBench
    infos: dict[str, SideInfo] = field(default_factory=dict)
    parity: list[TensorParity] = field(default_factory=list)

    @property
    def split(self) -> Path:
        return self.folder / "split.npz"

    @property
    def start(self) -> Path:
        return self.folder / "start.npz"

    @property
    def state(self) -> Path:
        """What the plain loop has reached where the halves of quads begin."""
        return self.folder / "common.state"

    @property
    def compares(self) -> bool:
        """Whether parameters are the gate: there are two sides, and no other mathematics."""
        return CANDIDATE in self.what.plans and not self.what.by_seeds

    def at(self, side: str, stage: str) -> Path:
        return self.folder / f"{side}-{stage}.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What its hops found beside the rows of the bench: peaks and resident memory by side, in bytes; the target and the
    trainings to their end, None where none was asked for."""

    log: TrainingLog
    pacing: Pacing
    peaks: Mapping[str, int | None]
    rss: Mapping[str, int]
    target: Target | None
    seeds: SeedsSeen | None
