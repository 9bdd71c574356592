"""What a training trial trains, and the order that the main process gives to each of its sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import ConfigurationError
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
    None for those of the seed."""

    trial: Trial
    dataset: Dataset
    config: ModelConfig
    training: TrainingConfig
    plans: Mapping[str, Plan]
    split: Split
    weights: Path | None
    cache_dir: Path


def training_plan(trial: Trial, planned: Planned, options: RunOptions) -> TrainingPlan:
    """Check that the plans can be gated. Raises ConfigurationError."""
    training = training_config(trial.model, trial.training)
    if CANDIDATE in planned.plans:
        _check_gate(planned.plans[CANDIDATE], training)
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


def _check_gate(plan: Plan, training: TrainingConfig) -> None:
    """Parameters can be compared only where both sides compute the same. Raises ConfigurationError."""
    coming = "such plans are to be gated by the AUC of several seeds, which this version does not do yet"
    opened = [step.name for step in plan.steps if step.division == "open"]
    if opened:
        raise ConfigurationError(
            f"opt: {opened[0]!r} trains with other mathematics than the baseline, so that parameters cannot be "
            f"compared; {coming}: leave it out"
        )
    if plan.pipeline.train is not None and plan.pipeline.train.parts > 1 and training.dropout > 0:
        raise ConfigurationError(
            f"opt: 'micro_batch' with training.dropout={training.dropout:g}: each part draws its own, so that "
            f"parameters cannot be compared; {coming}: say training.dropout=0, or leave micro_batch out"
        )
