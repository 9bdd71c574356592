"""A training trial on its way: what is trained, where its files lie, what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.estimate.parity import TensorParity
from harness.sut.system_process import SideInfo
from harness.training.bench import TrainingBench
from harness.training.pacing import Pacing
from harness.training.quads import TrainingLog
from harness.training.seed_outcome import SeedsSeen
from harness.training.spec import TrainingPlan
from harness.training.target import Target


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
