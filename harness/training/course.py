"""One training to its end, as its evaluations tell it: where it is evaluated, when it ends, what it keeps, and when it
reached a target. Pure functions; the rules are those of the fit loop (``zoo.fitting``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.record.training_rows import Evaluation
from zoo.training_batches import evaluation_steps
from zoo.training_config import TrainingConfig

FINER = 4
"""Looks at a target for each evaluation of the fit loop."""


class Look(NamedTuple):
    """An evaluation after ``step`` steps. ``decides``: the fit loop evaluates there, too."""

    step: int
    decides: bool


class Kept(NamedTuple):
    """The best deciding evaluation so far, and how many have come since."""

    best: Evaluation | None
    stale: int


class Reached(NamedTuple):
    """When a training first had a target: after so many steps, and seconds of training."""

    step: int
    seconds: float


def looks(per_epoch: int, training: TrainingConfig) -> list[Look]:
    """All evaluations of a training that is not ended early; the last one is after its last step, and decides."""
    deciding = [
        epoch * per_epoch + step
        for epoch in range(training.max_epochs)
        for step in sorted(evaluation_steps(per_epoch, training.evaluations))
        if step > 0
    ]
    found, before = list[Look](), 0
    for step in deciding:
        between = {before + round((step - before) * part / FINER) for part in range(1, FINER)}
        found += [Look(k, False) for k in sorted(between) if before < k < step]
        found.append(Look(step, True))
        before = step
    return found


def kept_of(rows: Iterable[Evaluation]) -> Kept:
    """What the fit loop would have kept after these evaluations of one training."""
    best, stale = None, 0
    for row in rows:
        if row.decides:
            stale += 1
            if best is None or row.valid_auc > best.valid_auc:
                best, stale = row, 0
    return Kept(best, stale)


def is_over(rows: Sequence[Evaluation], all_steps: int, patience: int) -> bool:
    """Whether the fit loop would take no further step."""
    return bool(rows) and (rows[-1].step >= all_steps or kept_of(rows).stale >= patience)


def reached(rows: Iterable[Evaluation], target: float) -> Reached | None:
    """The first evaluation of a training whose AUC is at least ``target``; None without one."""
    seconds = 0.0
    for row in rows:
        seconds += row.seconds
        if row.valid_auc >= target:
            return Reached(row.step, seconds)
    return None


def median_seconds(seconds: Sequence[float | None]) -> float | None:
    """Median over seeds, where a target that was not reached takes for ever; None where that is the median."""
    known = sorted(math.inf if value is None else value for value in seconds)
    if not known:
        return None
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return middle if math.isfinite(middle) else None
