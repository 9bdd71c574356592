"""The raw rows of a training trial: every stretch of steps that the referee timed, and how far parameters lie apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]
Row = TypeVar("Row")

READING = ("warm", "read")
"""Purposes of stretches that read inputs and take no step."""
CHUNK_TEXTS = ("side", "purpose")
CHUNK_COLUMNS: Mapping[str, type] = {
    "chunk": np.int64,
    "quad": np.int64,
    "half": np.int64,
    "first_step": np.int64,
    "steps": np.int64,
    "samples": np.int64,
    "started_ns": np.int64,
    "ended_ns": np.int64,
    "cpu_ns": np.int64,
    "minor_faults": np.int64,
    "major_faults": np.int64,
}
"""Columns of ``training.parquet`` beside ``CHUNK_TEXTS``; the fields of ``Chunk``."""

PARITY_TEXTS = ("stage", "tensor")
PARITY_COLUMNS: Mapping[str, type] = {
    "quad": np.int64,
    "half": np.int64,
    "steps": np.int64,
    "elements": np.int64,
    "compared": np.int64,
    "scale": np.float64,
    "reordered_p50": np.float64,
    "reordered_p99": np.float64,
    "p50": np.float64,
    "p99": np.float64,
    "tail": np.float64,
}
"""Columns of ``parity.parquet`` beside ``PARITY_TEXTS``; the fields of ``harness.estimate.parity.TensorParity``."""


EVALUATION_TEXTS = ("side",)
EVALUATION_COLUMNS: Mapping[str, type] = {
    "seed": np.int64,
    "first_step": np.int64,
    "steps": np.int64,
    "samples": np.int64,
    "started_ns": np.int64,
    "ended_ns": np.int64,
    "cpu_ns": np.int64,
    "keep_cpu_ns": np.int64,
    "decides": np.int64,
    "valid_auc": np.float64,
}
"""Columns of ``evaluations.parquet`` beside ``EVALUATION_TEXTS``; the fields of ``Evaluation``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A stretch of a training to its end, timed by the referee, and the validation AUC after it, which is not.

    decides: 1 where the fit loop evaluates as well, so that its early stopping looks at this one; 0 in between, where
    only a target is looked for. first_step counts from 0 for every seed. cpu_ns: processor time of the side's processes
    over its steps; keep_cpu_ns: while it wrote its weights.
    """

    side: str
    seed: int
    first_step: int
    steps: int
    samples: int
    started_ns: int
    ended_ns: int
    cpu_ns: int
    keep_cpu_ns: int
    decides: int
    valid_auc: float

    @property
    def seconds(self) -> float:
        """From the order to the answer."""
        return (self.ended_ns - self.started_ns) * 1e-9

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.first_step + self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One stretch of steps of one side, timed by the referee from its order to the answer.

    purpose: gate (the first steps, whose parameters are compared) | pace (how many steps fill a stretch) | settle
    (after thawing, or the first ones of a burst; not counted) | quad (the rest of a burst) | save (a compared burst's
    parameters written, taking no step) | warm (as settle, before read) | read (inputs alone, taking no step) | compute
    (steps whose inputs are there). quad and half are -1 outside of the ABBA quads. first_step: of the batches of the
    seed, from 0; within a quad it is a place in the first epoch that was drawn. cpu_ns, minor_faults, major_faults: of
    all of the side's processes.
    """

    side: str
    purpose: str
    chunk: int
    quad: int
    half: int
    first_step: int
    steps: int
    samples: int
    started_ns: int
    ended_ns: int
    cpu_ns: int
    minor_faults: int
    major_faults: int

    @property
    def seconds(self) -> float:
        """From the order to the answer."""
        return (self.ended_ns - self.started_ns) * 1e-9

    @property
    def samples_per_s(self) -> float:
        """Rate of this stretch."""
        return self.samples / self.seconds


def as_columns(rows: Sequence[Any], texts: Iterable[str], numbers: Mapping[str, type]) -> Columns:
    """Dataclass rows as arrays by field, each [R]."""
    columns: Columns = {name: np.array([getattr(row, name) for row in rows], str) for name in texts}
    return columns | {name: np.array([getattr(row, name) for row in rows], kind) for name, kind in numbers.items()}


def as_rows(kind: type[Row], columns: Mapping[str, npt.NDArray[Any]]) -> list[Row]:
    """The way back from ``as_columns``."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return [
        kind(**dict(zip(names, row, strict=True))) for row in zip(*(columns[n].tolist() for n in names), strict=True)
    ]
