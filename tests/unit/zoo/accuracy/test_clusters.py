"""Which samples hang together when an interval is made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from zoo.accuracy.intervals import mean_auc
from zoo.accuracy.runs import clusters_of
from zoo.schema import Rows, Split


def _split(users: list[int]) -> Split:
    count = len(users)
    return Split(
        user=Rows.empty(max(users) + 1),
        item=Rows.empty(count),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(max(users) + 2, np.int64),
        user_of=np.array(users),
        labels=np.zeros(count, np.float32),
        groups=np.array([0, count]),
    )


def test_samples_of_named_users_hang_together() -> None:
    assert clusters_of(_split([0, 0, 1, 1, 1])).tolist() == [0, 0, 1, 1, 1]


def test_samples_without_a_user_stand_alone() -> None:
    split = _split([0, 0, 0, 0])
    assert clusters_of(split).tolist() == [0, 1, 2, 3]
    assert clusters_of(dataclasses.replace(split, user_of=np.array([0, 0, 0, 1]))).tolist() == [0, 0, 0, 1]


def test_the_interval_of_lone_samples_is_that_of_delong() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(400) < 0.4).astype(np.float32)
    scores = (rng.normal(size=400) + labels).astype(np.float32)
    positive, negative = scores[labels == 1], scores[labels == 0]
    above = (positive[:, None] > negative[None, :]).mean(1)
    below = (positive[:, None] > negative[None, :]).mean(0)
    error = np.sqrt(above.var() / len(positive) + below.var() / len(negative))
    found = mean_auc(labels, [scores], np.arange(400))
    assert found.value == pytest.approx(above.mean(), abs=1e-12)
    assert found.high - found.low == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=0.01)
