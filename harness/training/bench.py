"""Stretches of steps under the referee's clock: one side works, the others are frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.clock import now_ns
from harness.console.observer import Observer
from harness.measurement.awake import Awake
from harness.record.training_rows import Chunk
from harness.training.sides import TrainingSides

OUTSIDE = (-1, -1)
"""Quad and half of a stretch that belongs to no quad."""


@dataclass(slots=True, kw_only=True)
class TrainingBench:
    """The sides, and what was seen of them. ``position``: the step of the batches at which each stands. ``peaks``: its
    largest resident memory while it was watched, in bytes; None where the system does not tell."""

    sides: TrainingSides
    observer: Observer
    chunks: list[Chunk] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    position: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, int | None] = field(default_factory=dict)
    awake: Awake = field(init=False)

    def __post_init__(self) -> None:
        self.awake = Awake(self.sides, self.remarks)

    def joined(self, side: str) -> None:
        """A side has been started."""
        self.awake.joined(side)
        self.position[side] = 0

    def order(self, side: str, command: str, **values: Any) -> None:
        """Have a side do what is not timed."""
        self.awake.wake(side)
        self.sides.order(side, command, **values)

    def watch_peak(self, side: str) -> None:
        """Forget what a side's memory has been so far."""
        self.sides.forget_peak(side)

    def keep_peak(self, side: str) -> None:
        """What a side's memory has been at most since it is watched counts for ``peaks``."""
        found, known = self.sides.peak_bytes(side), self.peaks.get(side)
        self.peaks[side] = known if found is None else max(found, known or 0)

    def save(self, side: str, path: Path, where: tuple[int, int]) -> Chunk:
        """Have a side write its parameters."""
        return self._timed(side, "save", "save", 0, where, path=str(path))

    def train(
        self, side: str, purpose: str, steps: int, where: tuple[int, int] = OUTSIDE, at: int | None = None
    ) -> Chunk:
        """Have a side take its next steps, or those from step ``at`` of the first epoch on; inputs included."""
        values = {"steps": steps} if at is None else {"steps": steps, "at": at}
        return self._timed(side, purpose, "train", steps, where, **values)

    def read(self, side: str, purpose: str, steps: int) -> Chunk:
        """Have a side prepare the inputs of its next steps and forget them."""
        return self._timed(side, purpose, "read", steps, OUTSIDE, steps=steps)

    def compute(self, side: str, steps: int) -> Chunk:
        """Have a side take its next steps from inputs that are there: their preparation is not timed."""
        self.order(side, "hold", steps=steps)
        return self._timed(side, "compute", "compute", steps, OUTSIDE)

    def _timed(
        self, side: str, purpose: str, command: str, steps_taken: int, where: tuple[int, int], **values: Any
    ) -> Chunk:
        self.awake.wake(side)
        first_step = values.get("at", self.position[side])
        cpu_ns, (minor, major) = self.sides.cpu_ns(side), self.sides.faults(side)
        started_ns = now_ns()
        samples = self.sides.order(side, command, **values)
        ended_ns = now_ns()
        (minor_after, major_after), cpu_after_ns = self.sides.faults(side), self.sides.cpu_ns(side)
        chunk = Chunk(
            side=side,
            purpose=purpose,
            chunk=len(self.chunks),
            quad=where[0],
            half=where[1],
            first_step=first_step,
            steps=steps_taken,
            samples=samples,
            started_ns=started_ns,
            ended_ns=ended_ns,
            cpu_ns=cpu_after_ns - cpu_ns,
            minor_faults=minor_after - minor,
            major_faults=major_after - major,
        )
        self.chunks.append(chunk)
        if command != "read":
            self.position[side] = first_step + steps_taken
        if samples:
            self.observer.advance(chunk.seconds, f"{side} {chunk.samples_per_s:,.0f} samples/s")
        return chunk
