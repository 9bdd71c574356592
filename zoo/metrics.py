"""Ranking quality of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def auc(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """Area under the ROC curve by the rank sum (Mann and Whitney, 1947); ties get midranks.

    labels [N] of 0 and 1, scores [N]. NaN when one class is missing. Raises ValueError for NaN.
    """
    if np.isnan(labels).any() or np.isnan(scores).any():
        raise ValueError("AUC needs a label and a score for every sample, and there is a NaN among them")
    positive = labels > 0.5
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    midranks = counts.cumsum() - (counts - 1) / 2
    rank_sum = float(midranks[inverse[positive]].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
