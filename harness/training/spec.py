"""What a training trial trains, and the order that the main process gives to each of its sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.errors import ConfigurationError
from harness.estimate.seeds import FEWEST_SEEDS
from harness.measurement.preparation import CANDIDATE, Planned
from harness.options import RunOptions
from harness.trial import Trial
from optimizations.contract import Plan
from optimizations.plan import plan_to_json
from zoo.configs import ModelConfig
from zoo.schema import Dataset, Split
from zoo.split_file import first_samples
from zoo.training_config import TrainingConfig, training_config

TRAINED_SAMPLES = 2_000_000
"""At most: what the sides map is written to disk first, whatever the data set holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What both sides share, and the plan of each. split: what is trained on. weights: the user's own to start from, or
    None for those of the seed. seeds: of the trainings to their end, () for none. by_seeds: why these are the gate, ""
    where parameters are."""

    trial: Trial
    dataset: Dataset
    config: ModelConfig
    training: TrainingConfig
    plans: Mapping[str, Plan]
    split: Split
    weights: Path | None
    cache_dir: Path
    seeds: tuple[int, ...] = ()
    by_seeds: str = ""


class Declared(Protocol):
    """What a step of a plan says of itself, before it is lowered and after it."""

    @property
    def name(self) -> str:
        """Of the optimization."""

    @property
    def division(self) -> str:
        """closed or open."""

    @property
    def claims(self) -> tuple[str, ...]:
        """Slots that it wrote."""


def other_mathematics(steps: Iterable[Declared], dropout: float) -> str:
    """Why a plan's parameters cannot be compared with the baseline's; "" where they can."""
    for step in steps:
        if step.division == "open":
            return f"{step.name!r} trains with other mathematics than the baseline"
        if dropout > 0 and not {"train.parts", "train.ranks"}.isdisjoint(step.claims):
            return f"{step.name!r} with training.dropout={dropout:g}: each part draws its own"
    return ""


def seeds_of(first: int, count: int) -> tuple[int, ...]:
    """The seeds of ``count`` trainings: nobody chooses them after he has seen one."""
    return tuple(range(first, first + count))


def training_plan(trial: Trial, planned: Planned, options: RunOptions) -> TrainingPlan:
    """Check that the plans can be gated. Raises ConfigurationError."""
    training = training_config(trial.model, trial.training)
    by_seeds = ""
    if CANDIDATE in planned.plans:
        by_seeds = other_mathematics(planned.plans[CANDIDATE].steps, training.dropout)
    if by_seeds and trial.train_seeds < FEWEST_SEEDS:
        raise ConfigurationError(
            f"opt: {by_seeds}, so that parameters cannot be compared, and the AUC of several seeds is the gate: say "
            f"training.seeds=5 (at least {FEWEST_SEEDS}), or leave it out"
        )
    split = first_samples(planned.dataset.train, TRAINED_SAMPLES)
    if np.isnan(split.labels).all():
        raise ConfigurationError(f"dataset={trial.dataset}: no sample of the training split has a label to learn from")
    return TrainingPlan(
        trial=trial,
        dataset=planned.dataset,
        config=planned.config,
        training=training,
        plans=planned.plans,
        split=split,
        weights=Path(options.weights_file) if options.weights_file else None,
        cache_dir=options.cache_dir.resolve(),
        seeds=seeds_of(training.seed, trial.train_seeds),
        by_seeds=by_seeds,
    )


def training_spec(what: TrainingPlan, plan: Plan, split: Path, start: Path | None) -> dict[str, Any]:
    """Spec of a side (``harness.sut.training_server``)."""
    return {
        "plan": plan_to_json(plan),
        "model": dataclasses.asdict(what.config),
        "schema": what.dataset.schema.to_json(),
        "training": dataclasses.asdict(what.training),
        "split": str(split),
        "start": None if start is None else str(start.resolve()),
        "reordering": None,
        "cache_dir": str(what.cache_dir),
        "environment": dict(plan.pipeline.runtime.environment),
    }
