from __future__ import annotations

import numpy as np
import pytest

from zoo.accuracy.intervals import mean_auc, mean_difference
from zoo.metrics import auc, placements


def _sample(
    rng: np.random.Generator, users: int, shared: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two correlated scores and users of 4 samples each; ``shared`` is what a user's samples have in common."""
    user_of = np.repeat(np.arange(users), 4)
    labels = (rng.random(len(user_of)) < 0.4).astype(float)
    common = rng.normal(size=users)[user_of] * shared
    one = labels + common + rng.normal(size=len(user_of))
    return labels, one, one + 0.3 * labels + 0.5 * rng.normal(size=len(user_of)), user_of


def test_placements_against_loops() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60).astype(float), rng.integers(0, 8, 60).astype(float)
    got = placements(labels, scores)
    for row in range(60):
        others = scores[labels != labels[row]]
        beaten = others < scores[row] if labels[row] else others > scores[row]
        assert got[row] == pytest.approx(beaten.mean() + 0.5 * (others == scores[row]).mean(), abs=1e-12)
    assert got[labels == 1].mean() == pytest.approx(auc(labels, scores), abs=1e-12)
    assert got[labels == 0].mean() == pytest.approx(auc(labels, scores), abs=1e-12)


def test_single_samples_give_the_interval_of_delong() -> None:
    """With one sample per cluster the variance is DeLong's var(V10) / m + var(V01) / n, up to the divisors."""
    labels, one, other, _ = _sample(np.random.default_rng(1), 300, 0.0)
    got = mean_difference(labels, [other], [one], np.arange(len(labels)))
    delta = placements(labels, other) - placements(labels, one)
    m, n = int(labels.sum()), int((1 - labels).sum())
    error = np.sqrt(delta[labels == 1].var() / m + delta[labels == 0].var() / n)
    assert got.value == pytest.approx(auc(labels, other) - auc(labels, one), abs=1e-12)
    assert got.high - got.low == pytest.approx(2 * 1.959964 * error, rel=2e-3)


@pytest.mark.parametrize("shared", [0.0, 1.5])
def test_intervals_hold_the_truth_as_often_as_they_say(shared: float) -> None:
    """The error that is claimed is the one that repeated draws of the users show."""
    rng = np.random.default_rng(2)
    draws = [_sample(rng, 100, shared) for _ in range(300)]
    estimates = [mean_auc(labels, [one], users) for labels, one, _, users in draws]
    values = np.array([estimate.value for estimate in estimates])
    claimed = np.mean([(e.high - e.low) / (2 * 1.959964) for e in estimates])
    assert claimed == pytest.approx(values.std(ddof=1), rel=0.12)
    covered = np.mean([e.low <= values.mean() <= e.high for e in estimates])
    assert 0.91 <= covered <= 0.98


def test_seeds_are_averaged() -> None:
    labels, one, other, users = _sample(np.random.default_rng(3), 80, 0.5)
    got = mean_auc(labels, [one, other], users)
    values = np.array([auc(labels, one), auc(labels, other)])
    assert got.value == pytest.approx(values.mean(), abs=1e-12)
    assert got.spread == pytest.approx(values.std(ddof=1), abs=1e-12)
    against = mean_difference(labels, [one, other], [one], users)
    assert against.value == pytest.approx(values.mean() - values[0], abs=1e-12)
