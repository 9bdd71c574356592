"""The gate of a training of other mathematics: AUCs of several seeds, each trained on both sides. Pure functions.

A seed gives both sides the same start weights and the same batches, so its two AUCs are compared with each other: what
the seed alone decides falls out of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.estimate.accuracy import AUC_MARGIN, Interval, Verdict
from harness.estimate.stats import t_interval
from harness.trial import FEWEST_SEEDS

SPREAD_FACTOR = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedSeeds:
    """Mean of candidate - baseline with its two-sided 95 % interval; ``spread``: standard deviation of the baseline's
    AUC between seeds. ``reasons`` is empty on a pass."""

    verdict: Verdict
    delta: float
    ci: Interval
    margin: float
    spread: float
    reasons: tuple[str, ...]


def auc_margin(spread: float, seeds: int) -> float:
    """By how much the AUC may fall: 0.001 as in serving, or three standard errors of the difference of two means of
    ``seeds`` trainings that have nothing in common but their mathematics."""
    return max(AUC_MARGIN, SPREAD_FACTOR * spread * math.sqrt(2.0 / seeds))


def paired_seeds(baseline: Sequence[float], candidate: Sequence[float]) -> PairedSeeds:
    """Non-inferiority of the candidate's AUC: the interval of the mean difference lies above minus the margin.

    baseline[k], candidate[k]: test AUC of the k-th seed. A candidate's that is not a number fails. Raises ValueError
    for fewer than three seeds, for unequal numbers of them, and for a baseline's AUC that is not a number.
    """
    base, cand = np.asarray(baseline, np.float64), np.asarray(candidate, np.float64)
    if base.shape != cand.shape or base.size < FEWEST_SEEDS:
        raise ValueError(f"AUCs of {base.size} and {cand.size} seeds: the gate needs as many, and at least 3, of both")
    if not np.isfinite(base).all():
        raise ValueError("the baseline's AUC of a seed is not a number")
    spread = float(base.std(ddof=1))
    margin = auc_margin(spread, base.size)
    broken = int((~np.isfinite(cand)).sum())
    if broken:
        reasons: tuple[str, ...] = (f"{broken} of {cand.size} candidates have scores that are not finite numbers",)
        nothing = (math.nan, math.nan)
        return PairedSeeds(verdict="fail", delta=math.nan, ci=nothing, margin=margin, spread=spread, reasons=reasons)
    ci = t_interval(cand - base)
    reasons = () if ci[0] > -margin else (_reason(ci, margin, base.size),)
    return PairedSeeds(
        verdict="fail" if reasons else "pass",
        delta=float((cand - base).mean()),
        ci=ci,
        margin=margin,
        spread=spread,
        reasons=reasons,
    )


def _reason(ci: Interval, margin: float, seeds: int) -> str:
    said = f"AUC may fall by {-ci[0]:.5f} over {seeds} seeds, margin {margin:.5f}"
    return said if ci[1] < 0.0 else f"{said}; it may as well not fall, and more seeds would tell"
