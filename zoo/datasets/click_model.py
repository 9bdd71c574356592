"""From logits to clicks with a known probability, and the best AUC that anybody can reach on them."""

from __future__ import annotations

import decimal
import functools

import numpy as np
import numpy.typing as npt

from zoo.datasets.portable_random import Float64, Stream

LOGIT_STEP = 2.0**-8
LOGIT_LIMIT = 8.0
PROBABILITY_STEP = 2.0**-24


@functools.cache
def _probability_table() -> Float64:
    """sigmoid(z) for every z on the logit grid, as multiples of 2**-24 (exact in float32).

    Computed in decimal arithmetic, whose exponential is correctly rounded: the same table on every machine.
    """
    steps = int(LOGIT_LIMIT / LOGIT_STEP)
    table = np.empty(2 * steps + 1)
    with decimal.localcontext(prec=24):
        for index in range(2 * steps + 1):
            logit = decimal.Decimal(index - steps) * decimal.Decimal(LOGIT_STEP)
            table[index] = int(2**24 / (1 + (-logit).exp()) + decimal.Decimal("0.5"))
    return table * PROBABILITY_STEP


def click_probability(logit: Float64) -> npt.NDArray[np.float32]:
    """sigmoid of ``logit`` [N] rounded to the grid 2**-8 and clipped to +-8; float32 [N], exactly representable."""
    grid = np.rint(np.clip(logit, -LOGIT_LIMIT, LOGIT_LIMIT) / LOGIT_STEP).astype(np.int64)
    return _probability_table()[grid + int(LOGIT_LIMIT / LOGIT_STEP)].astype(np.float32)


def draw_labels(probability: npt.NDArray[np.float32], stream: Stream) -> npt.NDArray[np.float32]:
    """Clicks [N] (0 or 1): each is 1 with exactly its ``probability`` (whole 24-bit draws below a whole threshold)."""
    threshold = np.rint(probability.astype(np.float64) / PROBABILITY_STEP).astype(np.uint64)
    return ((stream.raw(len(probability)) >> np.uint64(40)) < threshold).astype(np.float32)


def bayes_auc(probability: npt.NDArray[np.float32]) -> float:
    """The AUC of the true probability over all labellings: no score can have a higher expected AUC.

    sum over pairs of p_i (1 - p_j) [p_i > p_j, ties one half] divided by sum over pairs of p_i (1 - p_j), i != j:
    the expected count of correctly ordered pairs over the expected count of pairs. It does not depend on the labels
    that were drawn; those of one test split scatter around it by their own standard error.
    """
    ordered, counts = np.unique(probability.astype(np.float64), return_counts=True)
    clicks = ordered * counts
    misses = (1.0 - ordered) * counts
    misses_below = np.cumsum(misses) - misses
    own_pair = ordered * (1.0 - ordered)
    ties = clicks * misses - counts * own_pair
    pairs = clicks.sum() * misses.sum() - (counts * own_pair).sum()
    return float(((clicks * misses_below).sum() + 0.5 * ties.sum()) / pairs)
