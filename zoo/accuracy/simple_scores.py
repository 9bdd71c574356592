"""Scores by counting, without a model: what popularity and categories alone tell about a candidate.

They show what of a model's AUC is cheap. Both read the training split alone; column 0 of the candidates and of the
behaviours is the item, column 1 its category.
"""

from __future__ import annotations

import numpy as np

from zoo.schema import Dataset, Float32, Int64, Split, take_ragged

SMOOTHING = 5.0
"""How many times what chance would give is added to the count of every pair of categories."""


def popularity_scores(dataset: Dataset) -> Float32:
    """How often the candidate [N] of each test sample is a positive of the training split."""
    train, rows = dataset.train, dataset.schema.ids[0].rows
    counts = np.bincount(train.item.ids[train.labels == 1, 0], minlength=rows)
    return counts[dataset.test.item.ids[:, 0]].astype(np.float32)


def category_scores(dataset: Dataset) -> Float32:
    """Mean over the test user's behaviours of the log lift [N] of (behaviour's category, candidate's category).

    The lift is how much more often than by chance a training positive of the one follows a history with the other.
    An empty history scores 0.
    """
    rows = dataset.schema.ids[1].rows
    positives = np.flatnonzero(dataset.train.labels == 1)
    seen, candidate, _ = _pairs(dataset.train, positives)
    joint = np.bincount(seen * rows + candidate, minlength=rows * rows).reshape(rows, rows).astype(np.float64)
    chance = (joint.sum(1, keepdims=True) + 1) * (joint.sum(0, keepdims=True) + 1) / max(joint.sum(), 1.0)
    lift = np.log((joint + SMOOTHING * chance) / (chance + SMOOTHING * chance))
    seen, candidate, sample = _pairs(dataset.test, np.arange(len(dataset.test)))
    total = np.bincount(sample, weights=lift[seen, candidate], minlength=len(dataset.test))
    count = np.bincount(sample, minlength=len(dataset.test))
    mean: Float32 = (total / np.maximum(count, 1)).astype(np.float32)
    return mean


def _pairs(split: Split, samples: Int64) -> tuple[Int64, Int64, Int64]:
    """(behaviour's category, candidate's category, place in ``samples``) of every behaviour of every sample."""
    seen, offsets = take_ragged(split.history[:, 1], split.history_offsets, split.user_of[samples])
    place = np.repeat(np.arange(len(samples)), np.diff(offsets))
    return seen, split.item.ids[samples, 1][place], place
