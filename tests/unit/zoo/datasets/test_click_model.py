"""Probabilities, labels and the Bayes AUC against closed forms and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from zoo.datasets.click_model import bayes_auc, click_probability, draw_labels
from zoo.datasets.portable_random import Stream


def test_probability_is_the_sigmoid_of_the_rounded_logit() -> None:
    logits = np.linspace(-10, 10, 5_001)
    rounded = np.clip(np.round(np.clip(logits, -8, 8) * 256) / 256, -8, 8)
    got = click_probability(logits)
    assert got.dtype == np.float32
    assert np.abs(got - 1 / (1 + np.exp(-rounded))).max() <= 2**-24
    assert float(click_probability(np.zeros(1))[0]) == 0.5
    whole = got.astype(np.float64) * 2**24
    assert np.array_equal(whole, np.round(whole))


def test_labels_appear_with_their_probability() -> None:
    for chance in (0.01, 0.25, 0.9):
        probability = click_probability(np.full(100_000, np.log(chance / (1 - chance))))
        labels = draw_labels(probability, Stream(1))
        expected = float(probability[0])
        assert set(np.unique(labels)) == {0.0, 1.0}
        assert abs(labels.mean() - expected) < 5 * (expected * (1 - expected) / 100_000) ** 0.5


@given(st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]), min_size=3, max_size=12))
def test_bayes_auc_is_the_ratio_of_expected_pairs(values: list[float]) -> None:
    pairs = list(itertools.permutations(values, 2))
    expected_pairs = sum(p * (1 - q) for p, q in pairs)
    if expected_pairs == 0:
        return
    ordered = sum(p * (1 - q) * ((p > q) + 0.5 * (p == q)) for p, q in pairs)
    assert bayes_auc(np.array(values, np.float32)) == pytest.approx(ordered / expected_pairs, abs=1e-12)


def test_bayes_auc_is_the_mean_auc_over_relabellings() -> None:
    stream = Stream(2)
    probability = click_probability(4 * stream.uniform(2_000) - 3)
    aucs = [roc_auc_score(draw_labels(probability, stream), probability) for _ in range(300)]
    standard_error = np.std(aucs) / len(aucs) ** 0.5
    # The mean of ratios and the ratio of means differ by terms of order 1 / 2,000: far below this bound.
    assert abs(np.mean(aucs) - bayes_auc(probability)) < 4 * standard_error + 1e-4


def test_no_score_beats_the_bayes_auc() -> None:
    stream = Stream(3)
    probability = click_probability(4 * stream.uniform(50_000) - 3)
    labels = draw_labels(probability, stream)
    noisy = probability + 0.2 * stream.uniform(50_000)
    assert roc_auc_score(labels, noisy) < roc_auc_score(labels, probability)
    assert abs(roc_auc_score(labels, probability) - bayes_auc(probability)) < 0.012
