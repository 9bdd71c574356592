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


def placements(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of each positive the share of negatives below it, of each negative the share of positives above it [N].

    Ties count one half. The mean over either class is the AUC (DeLong et al., 1988, section 3).
    """
    positive = labels > 0.5
    found = np.empty(len(labels))
    for own, sign in ((positive, 1.0), (~positive, -1.0)):
        others = np.sort(sign * scores[~own])
        below = np.searchsorted(others, sign * scores[own], "left")
        through = np.searchsorted(others, sign * scores[own], "right")
        found[own] = (below + through) / (2 * len(others))
    return found
