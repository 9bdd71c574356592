"""What only a trial of ``scope=train`` has to choose, or may not: checked before there are data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.backends.catalogue import require_training
from harness.edge.settings import Settings
from harness.errors import ConfigurationError
from harness.options import Budget
from harness.training.mathematics import other_mathematics, require_seeds
from harness.trial import Trial
from optimizations.best_plans import TRAINING
from optimizations.contract import Scope
from optimizations.foreseen import foreseen
from zoo.datasets import table_copies

TO_AUC = ("seeds", "target_auc")
"""What of ``training`` is no setting of the fit loop."""


def check_training(trial: Trial, settings: Settings, budget: Budget) -> None:
    """What only a system that serves has. Raises ConfigurationError."""
    require_training(trial.backend)
    if trial.device != "cpu":
        raise ConfigurationError(f"scope=train device={trial.device}: this version trains on device=cpu only")
    if trial.scenario != "server":
        raise ConfigurationError(
            f"scope=train scenario={trial.scenario}: a training answers no queries; leave scenario out"
        )
    if budget.certificate_s:
        raise ConfigurationError(
            f"scope=train budget={budget.name}: a certificate is for a held rate of queries; use budget=standard"
        )
    if settings.plan not in (None, TRAINING) and not settings.opt:
        raise ConfigurationError(
            f"scope=train experiment={settings.plan}: its plans are of serving; say experiment={TRAINING}, or name the "
            "optimizations yourself, as opt=[micro_batch,stage]"
        )
    if table_copies(trial.dataset_options) > 1:
        raise ConfigurationError(
            "scope=train dataset.table_copies: copies of rows are served and never trained; leave it out"
        )


def check_gate(trial: Trial) -> None:
    """Whether the gate that the plan will need can be held. Raises ConfigurationError."""
    steps = foreseen(trial.model, trial.backend, trial.device, "train", trial.opts)
    require_seeds(other_mathematics(steps, trial.training["dropout"]), trial.train_seeds)


def to_auc(section: Mapping[str, Any], scope: Scope, weights: str) -> dict[str, Any]:
    """``train_seeds`` and ``target_auc`` of the trial. Raises ConfigurationError."""
    seeds, target = (section.get(key) for key in TO_AUC)
    given = [f"training.{key}={section[key]}" for key in TO_AUC if section.get(key) is not None]
    if given and scope == "serve":
        raise ConfigurationError(f"{given[0]}: trainings go to their end with scope=train only; leave it out")
    if seeds is not None and (isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1):
        raise ConfigurationError(
            f"training.seeds={seeds}: how many trainings go to their end on each side, a whole number of at least 1; "
            "leave it out to measure the speed of steps alone"
        )
    if target is not None and (isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target < 1):
        raise ConfigurationError(f"training.target_auc={target} has to be an AUC, above 0 and below 1")
    if target is not None and seeds is None:
        raise ConfigurationError(
            f"training.target_auc={target}: it is for trainings that go to their end; say training.seeds=1 or more"
        )
    if given and weights:
        raise ConfigurationError(
            f"{given[0]} model.weights={weights}: trainings to their end begin with the weights of their seeds; leave "
            "one of the two out"
        )
    return {"train_seeds": seeds or 0, "target_auc": None if target is None else float(target)}
