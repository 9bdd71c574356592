"""Stretches of steps under the referee's clock: one side works, the others are frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.clock import now_ns
from harness.console.observer import Observer
from harness.measurement.awake import Awake
from harness.record.training_rows import Chunk
from harness.training.sides import TrainingSides

OUTSIDE = (-1, -1)
"""Quad and half of a stretch that belongs to no quad."""


@dataclass(slots=True, kw_only=True)
class TrainingBench:
    """The sides, and what was seen of them. ``position``: steps that each has taken."""

    sides: TrainingSides
    observer: Observer
    chunks: list[Chunk] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    position: dict[str, int] = field(default_factory=dict)
    awake: Awake = field(init=False)

    def __post_init__(self) -> None:
        self.awake = Awake(self.sides, self.remarks)

    def joined(self, side: str) -> None:
        """A side has been started."""
        self.awake.joined(side)
        self.position[side] = 0

    def train(self, side: str, purpose: str, steps: int, where: tuple[int, int] = OUTSIDE) -> Chunk:
        """Have a side take its next steps, inputs included."""
        return self._timed(side, purpose, "train", steps, where)

    def read(self, side: str, purpose: str, steps: int) -> Chunk:
        """Have a side prepare the inputs of its next steps and forget them."""
        return self._timed(side, purpose, "read", steps, OUTSIDE)

    def compute(self, side: str, steps: int) -> Chunk:
        """Have a side take its next steps from inputs that are there: their preparation is not timed."""
        self.awake.wake(side)
        self.sides.order(side, "hold", steps=steps)
        return self._timed(side, "compute", "compute", steps, OUTSIDE)

    def _timed(self, side: str, purpose: str, command: str, steps: int, where: tuple[int, int]) -> Chunk:
        self.awake.wake(side)
        cpu_ns, (minor, major) = self.sides.cpu_ns(side), self.sides.faults(side)
        started_ns = now_ns()
        samples = self.sides.order(side, command, steps=steps)
        ended_ns = now_ns()
        (minor_after, major_after), cpu_after_ns = self.sides.faults(side), self.sides.cpu_ns(side)
        chunk = Chunk(
            side=side,
            purpose=purpose,
            chunk=len(self.chunks),
            quad=where[0],
            half=where[1],
            first_step=self.position[side],
            steps=steps,
            samples=samples,
            started_ns=started_ns,
            ended_ns=ended_ns,
            cpu_ns=cpu_after_ns - cpu_ns,
            minor_faults=minor_after - minor,
            major_faults=major_after - major,
        )
        self.chunks.append(chunk)
        if command != "read":
            self.position[side] += steps
        self.observer.advance(chunk.seconds, f"{side} {chunk.samples_per_s:,.0f} samples/s")
        return chunk
