"""Counts against loops over samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.accuracy.simple_scores import SMOOTHING, category_scores, popularity_scores
from zoo.datasets.behaviours import BehaviourLog, SamplingOptions, build_schema, make_splits
from zoo.schema import Dataset

CATEGORIES = 4


@pytest.fixture
def behaviours() -> Dataset:
    rng = np.random.default_rng(4)
    lengths = rng.integers(2, 9, 80)
    items = rng.integers(1, 31, lengths.sum())
    category_of = np.append(0, rng.integers(1, CATEGORIES + 1, 30))
    log = BehaviourLog(items, np.concatenate([[0], lengths.cumsum()]), category_of)
    options = SamplingOptions(
        protocol="rolling",
        negatives="popular",
        max_history=5,
        valid_share=0.1,
        test_share=0.2,
        query_groups=2,
        query_size=6,
        seed=1,
    )
    splits = make_splits(log, options)
    schema = build_schema("b", log, 5)
    return Dataset(name="b", schema=schema, train=splits[0], valid=splits[1], test=splits[2], fingerprint="b")


def test_popularity_counts_training_positives(behaviours: Dataset) -> None:
    train, test = behaviours.train, behaviours.test
    positives = [int(item) for item, label in zip(train.item.ids[:, 0], train.labels, strict=True) if label == 1]
    assert popularity_scores(behaviours).tolist() == [positives.count(int(item)) for item in test.item.ids[:, 0]]


def test_categories_score_by_smoothed_lift(behaviours: Dataset) -> None:
    train, test = behaviours.train, behaviours.test
    joint = np.zeros((CATEGORIES + 1, CATEGORIES + 1))
    for sample in np.flatnonzero(train.labels == 1):
        user = train.user_of[sample]
        for _, category in train.history[train.history_offsets[user] : train.history_offsets[user + 1]]:
            joint[category, train.item.ids[sample, 1]] += 1
    got = category_scores(behaviours)
    for sample, (_, target) in enumerate(test.item.ids):
        user = test.user_of[sample]
        terms = []
        for _, category in test.history[test.history_offsets[user] : test.history_offsets[user + 1]]:
            chance = (joint[category].sum() + 1) * (joint[:, target].sum() + 1) / joint.sum()
            terms.append(math.log((joint[category, target] + SMOOTHING * chance) / ((1 + SMOOTHING) * chance)))
        assert got[sample] == pytest.approx(sum(terms) / len(terms), rel=1e-5, abs=1e-6)
