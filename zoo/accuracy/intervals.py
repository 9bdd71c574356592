"""Intervals of a mean AUC over seeds, and of the paired difference of two, when the samples of a user hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from zoo.metrics import placements

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its two-sided 95 % interval over test users, and the standard deviation between seeds."""

    value: float
    low: float
    high: float
    spread: float


def mean_auc(labels: Array, runs: Sequence[Array], clusters: Array) -> Estimate:
    """AUC averaged over ``runs`` (scores [N] of one seed each); ``clusters`` [N] numbers the user of a sample."""
    values = np.array([placements(labels, scores) for scores in runs])
    return _estimate(labels, values, clusters)


def mean_difference(labels: Array, runs: Sequence[Array], others: Sequence[Array], clusters: Array) -> Estimate:
    """AUC of ``runs`` less AUC of ``others``, seed by seed, averaged; a single other stands against every run."""
    ours = np.array([placements(labels, scores) for scores in runs])
    theirs = np.array([placements(labels, scores) for scores in others])
    return _estimate(labels, ours - theirs, clusters)


def _estimate(labels: Array, values: Array, clusters: Array) -> Estimate:
    """Nonparametric variance of clustered AUCs (Obuchowski, 1997, Biometrics 53): sums of placements by cluster."""
    positive = labels > 0.5
    per_seed = values[:, positive].mean(1)
    mean = values.mean(0)
    centred = np.where(positive, mean - mean[positive].mean(), mean - mean[~positive].mean())
    influence = centred / np.where(positive, positive.sum(), (~positive).sum())
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.bincount(numbers, weights=influence)
    error = float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))
    value, half = float(per_seed.mean()), float(stats.norm.ppf(0.975)) * error
    spread = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else 0.0
    return Estimate(value=value, low=value - half, high=value + half, spread=spread)
