"""The validation AUC that a training is timed to: what the plain loop reaches by itself, by seed, kept in the cache."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.console.observer import Observer
from harness.estimate.accuracy import AUC_MARGIN
from harness.measurement.weights import ensure_weights
from harness.options import RunOptions
from harness.record.durable_files import write_json
from harness.training.spec import TRAINED_SAMPLES, TrainingPlan, seeds_of

BASELINE_SEEDS = 5

Judge = Callable[[Path], float]
"""Validation AUC of the weights in a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``auc`` is what the user asked for, or follows from the best validation AUCs of the plain loop, one per seed."""

    auc: float
    seeds: tuple[int, ...] = ()
    valid_aucs: tuple[float, ...] = ()


def target_from(valid_aucs: Sequence[float]) -> float:
    """The median over seeds, less what the gate calls no difference.

    The median itself is a target that the plain loop misses with every second seed.
    """
    return float(np.median(np.asarray(valid_aucs, np.float64))) - AUC_MARGIN


def ensure_target(what: TrainingPlan, options: RunOptions, observer: Observer, judge: Judge) -> Target:
    """The target of the stored seeds; those that are not stored are trained first, as the weights of any trial are: in
    the cache, under their key, resumable. judge: called for weights whose AUC is not in the cache yet.
    """
    seeds = seeds_of(what.training.seed, BASELINE_SEEDS)
    aucs = tuple(_baseline_auc(what, seed, options, observer, judge) for seed in seeds)
    return Target(auc=target_from(aucs), seeds=seeds, valid_aucs=aucs)


def _baseline_auc(what: TrainingPlan, seed: int, options: RunOptions, observer: Observer, judge: Judge) -> float:
    trial = dataclasses.replace(what.trial, training={**what.trial.training, "seed": seed})
    title = f"{trial.model} plainly, seed {seed}, for the target"
    weights = ensure_weights(trial, what.config, what.dataset, options, observer, samples=TRAINED_SAMPLES, title=title)
    stored = weights.with_suffix(".auc.json")
    try:
        return float(json.loads(stored.read_text("utf-8"))["valid_auc"])
    except (OSError, ValueError, KeyError, TypeError):
        found = judge(weights)
        write_json(stored, {"valid_auc": found})
        return found
