"""The raw rows of a training trial, and whether they are what both sides were told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.estimate.parity import TensorParity
from harness.measurement.preparation import BASELINE
from harness.record.training_rows import READING, Chunk
from harness.training.pacing import SETTLE, TIMED
from harness.training.seed_outcome import SeedsSeen
from zoo.training_batches import samples_of_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What no row tells of a training: samples of an epoch and of a batch, the seed of the batches; by side, threads of
    the framework and largest resident memory."""

    epoch_samples: int
    batch_size: int
    seed: int
    threads: Mapping[str, int]
    peak_bytes: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSeen:
    """What a training trial has seen. shares: of core time in each quad (``harness.training.quads.host_shares``).
    seeds: of trainings to their end, None without any; by_seeds: these are the gate, and not the parameters."""

    chunks: Sequence[Chunk]
    parity: Sequence[TensorParity]
    facts: TrainingFacts
    shares: Mapping[int, tuple[float, float]]
    remarks: Sequence[str]
    seeds: SeedsSeen | None = None
    by_seeds: bool = False

    def of(self, side: str, purpose: str, quads: Sequence[int] | None = None) -> list[Chunk]:
        """The stretches of one side and purpose, in the given quads or in all."""
        chosen = [chunk for chunk in self.chunks if (chunk.side, chunk.purpose) == (side, purpose)]
        return [chunk for chunk in chosen if quads is None or chunk.quad in quads]


def check_rows(seen: TrainingSeen) -> None:
    """Rows have to be what both sides were told: the same steps with the same samples, one stretch after another. In a
    quad, each begins at a place in the first epoch that was drawn for both."""
    facts, position = seen.facts, dict.fromkeys(seen.facts.threads, 0)
    per_epoch = -(-facts.epoch_samples // facts.batch_size)
    told: dict[tuple[int, int], dict[str, list[tuple[str, int, int]]]] = {}
    ended = 0
    for number, chunk in enumerate(seen.chunks):
        if chunk.side not in position or chunk.chunk != number:
            raise ValueError(f"stretch {number} is numbered {chunk.chunk}, of side {chunk.side!r}")
        if not ended <= chunk.started_ns < chunk.ended_ns:
            raise ValueError(f"stretch {number} does not begin after the one before it and end after it began")
        if chunk.quad >= 0 and chunk.steps:
            if not 0 <= chunk.first_step < per_epoch:
                raise ValueError(f"stretch {number} begins at step {chunk.first_step} of an epoch of {per_epoch}")
            orders = told.setdefault((chunk.quad, chunk.half), {side: [] for side in position})
            orders[chunk.side].append((chunk.purpose, chunk.first_step, chunk.steps))
        elif chunk.first_step != position[chunk.side]:
            raise ValueError(f"stretch {number} begins at step {chunk.first_step}, not {position[chunk.side]}")
        samples = samples_of_steps(chunk.first_step, chunk.steps, facts.epoch_samples, facts.batch_size)
        if chunk.samples != samples:
            raise ValueError(f"stretch {number} has {chunk.samples} samples in {chunk.steps} steps, not {samples}")
        ended = chunk.ended_ns
        if chunk.purpose not in READING:
            position[chunk.side] = chunk.first_step + chunk.steps
    for (quad, half), orders in told.items():
        if any(found != orders[BASELINE] for found in orders.values()):
            raise ValueError(f"the sides took other steps in half {half} of quad {quad}")
    if len(set(position.values())) > 1:
        raise ValueError(f"the sides took unequal numbers of steps: {position}")
    _check_parity(seen)


def _check_parity(seen: TrainingSeen) -> None:
    """What is compared was compared where its stage ends, and every quad was."""
    gate = {chunk.steps for chunk in seen.chunks if chunk.purpose == "gate"}
    burst = SETTLE + TIMED
    for row in seen.parity:
        if {row.steps} != (gate if row.stage == "gate" else {burst}):
            raise ValueError(f"{row.tensor} was compared after {row.steps} steps, which is not when its stage ends")
    if not seen.parity:
        return
    saved = {(chunk.quad, chunk.half) for chunk in seen.chunks if chunk.purpose == "save" and chunk.quad >= 0}
    compared: dict[tuple[int, int], set[str]] = {}
    for row in seen.parity:
        if row.stage == "timed":
            compared.setdefault((row.quad, row.half), set()).add(row.tensor)
    if set(compared) != saved:
        odd = sorted(set(compared) ^ saved)
        raise ValueError(f"(quad, half) {odd}: parameters were compared and not saved there, or saved and not compared")
    if len(set(map(frozenset, compared.values()))) > 1:
        raise ValueError("not every burst that was compared was compared in the same tensors")
