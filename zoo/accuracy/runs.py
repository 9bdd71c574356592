"""Scores of contenders: train, or take the weights from the cache that trials use too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.accuracy.contests import Contender, Contest
from zoo.accuracy.intervals import Estimate, mean_auc, mean_difference
from zoo.accuracy.logistic import logistic_scores
from zoo.accuracy.simple_scores import category_scores, popularity_scores
from zoo.checkpoint import checkpoint_key, load_weights, save_weights, weights_file
from zoo.configs import model_config
from zoo.datasets import load_dataset
from zoo.fitting import Progress, fit
from zoo.models import build_model
from zoo.prediction import predict
from zoo.schema import Dataset, Float32, Int64, Split
from zoo.training import load_into, weights_of
from zoo.training_config import training_config
from zoo.training_state import StateFile, state_path

Say = Callable[[str], None]

COUNTED: dict[str, Callable[[Dataset], Float32]] = {"popularity": popularity_scores, "categories": category_scores}
"""Contenders without a training, by the name in ``Contender.model``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; ``difference`` is against the contest's first contender, None for that one itself."""

    label: str
    auc: Estimate
    difference: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A contest that was held: sizes of its splits, its ceiling where it is known, its rows."""

    title: str
    note: str
    samples: tuple[int, int, int]
    bayes_auc: float | None
    seeds: int
    rows: tuple[Row, ...]


def clusters_of(split: Split) -> Int64:
    """The user of each sample; every sample stands for itself where the data does not name its users."""
    users = split.user_of
    return users if len(np.unique(users)) > 1 else np.arange(len(users), dtype=np.int64)


def hold(contest: Contest, seeds: range, cache_dir: Path, say: Say) -> Outcome:
    """Train every contender with every seed and compare them on the test split."""
    dataset = load_dataset(contest.dataset, contest.options, cache_dir)
    known = ~np.isnan(dataset.test.labels)
    labels, users = dataset.test.labels[known], clusters_of(dataset.test)[known]
    runs = {}
    for contender in contest.contenders:
        scored = _all_scores(contender, contest, dataset, seeds, cache_dir, say)
        runs[contender.label] = [scores[known] for scores in scored]
    reference = runs[contest.contenders[0].label]
    rows = tuple(
        Row(
            label=label,
            auc=mean_auc(labels, scores, users),
            difference=None if scores is reference else mean_difference(labels, scores, reference, users),
        )
        for label, scores in runs.items()
    )
    counts = [int((~np.isnan(split.labels)).sum()) for split in (dataset.train, dataset.valid, dataset.test)]
    return Outcome(
        title=contest.title,
        note=contest.note,
        samples=(counts[0], counts[1], counts[2]),
        bayes_auc=dataset.bayes_auc,
        seeds=len(seeds),
        rows=rows,
    )


def _all_scores(
    contender: Contender, contest: Contest, dataset: Dataset, seeds: range, cache_dir: Path, say: Say
) -> list[Float32]:
    if contender.model == "logistic":
        say(f"{contest.name}: {contender.label}")
        return [logistic_scores(load_dataset(contest.dataset, {**contest.options, "min_count": 1}, cache_dir))]
    if contender.model in COUNTED:
        return [COUNTED[contender.model](dataset)]
    return [_scores(contender, contest, dataset, seed, cache_dir, say) for seed in seeds]


def _scores(contender: Contender, contest: Contest, dataset: Dataset, seed: int, cache_dir: Path, say: Say) -> Float32:
    config = model_config(contender.model, contender.sizes)
    changes = {**contest.training, **contender.training, "seed": seed}
    training = training_config(contender.model, changes, contest.dataset)
    path = weights_file(cache_dir, config.name, checkpoint_key(config, dataset.schema, training, dataset.fingerprint))

    told: list[float] = []

    def report(progress: Progress) -> None:
        if progress.valid_auc is not None and told[-1:] != [progress.valid_auc]:
            told.append(progress.valid_auc)
            where = f"seed {seed}, step {progress.step} of {progress.steps}"
            say(f"{contest.name}: {contender.label}, {where}, validation AUC {progress.valid_auc:.4f}")

    if not path.exists():
        kept = StateFile(state_path(path), say)
        save_weights(path, weights_of(fit(config, dataset, training, report, kept=kept).model))
        kept.remove()
    model = build_model(config, dataset.schema)
    load_into(model, load_weights(path))
    return predict(model, dataset.test)
