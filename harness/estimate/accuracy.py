"""Accuracy of predictions, and the gate that a candidate passes before its speed counts. Pure functions.

Scores are compared in float32, the precision in which a session answers; ties count one half (midranks).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

Array = npt.NDArray[Any]
Interval = tuple[float, float]
Verdict = Literal["pass", "fail"]

AUC_MARGIN = 0.001
OTHER_WEIGHTS_AUC_MARGIN = 0.002
"""Of two models that were trained apart."""
LOGLOSS_MARGIN = 0.001
PCOC_MARGIN = 0.005
PROBABILITY_FLOOR = 1e-7
"""Logloss clips predictions to [1e-7, 1 - 1e-7]: one unit in the last place of float32 below 1."""

ANSWER_TOLERANCE = {"fp32": 1e-6, "tf32": 4e-3, "bf16": 4e-3, "int8": 5e-3}
_Z95 = float(sps.norm.ppf(0.975))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedAuc:
    """Two AUCs on the same samples; ``delta`` = b - a with its standard error and two-sided 95 % interval."""

    auc_a: float
    auc_b: float
    delta: float
    se: float
    ci: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Verdict of the accuracy gate. Differences are candidate - baseline; ``reasons`` is empty on a pass."""

    verdict: Verdict
    auc_delta: float
    auc_delta_ci: Interval
    margin: float
    logloss_delta_ci: Interval
    pcoc_ratio: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedAnswers:
    """Whether timed answers equal those of the accuracy run; ``largest`` is the largest absolute deviation."""

    verdict: Verdict
    compared: int
    beyond: int
    largest: float
    tolerance: float


def labelled(labels: Array, *scores: Array) -> tuple[Array, ...]:
    """Labels (as int64) and scores (as float32) of the samples that carry a label; NaN marks an unlabelled one.

    labels: (n,) with values 0, 1 or NaN. Raises ValueError on other values or lengths that differ.
    """
    known = np.asarray(labels, dtype=np.float64)
    if any(np.shape(s) != known.shape for s in scores):
        raise ValueError(f"labels {known.shape} and scores {[np.shape(s) for s in scores]} must have one length")
    keep = ~np.isnan(known)
    if not np.isin(known[keep], (0.0, 1.0)).all():
        raise ValueError("labels must be 0, 1 or NaN (unlabelled)")
    return (known[keep].astype(np.int64), *(np.asarray(s, dtype=np.float32)[keep] for s in scores))


def _placements(labels: Array, scores: Array) -> tuple[Array, Array]:
    """Share of negatives below each positive, and of positives above each negative, by midranks in O(n log n).

    Sun & Xu 2014, "Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21(11), eq. 5-8.
    """
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} scores are not finite numbers")
    positive = labels == 1
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if n_pos == 0 or n_neg == 0:
        raise ValueError(f"AUC needs both classes; the {labels.size} labels hold {n_pos} ones and {n_neg} zeros")
    rank = sps.rankdata(scores)
    above_negatives = (rank[positive] - sps.rankdata(scores[positive])) / n_neg
    below_positives = 1.0 - (rank[~positive] - sps.rankdata(scores[~positive])) / n_pos
    return above_negatives, below_positives


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve, exact, ties counting one half. Unlabelled samples are dropped.

    labels, scores: (n,). Raises ValueError on a single class or scores that are not finite.
    """
    known, kept = labelled(labels, scores)
    return float(_placements(known, kept)[0].mean())


def delong_paired(labels: Array, a: Array, b: Array) -> PairedAuc:
    """AUC of ``a`` and of ``b`` on the same samples, with the normal 95 % interval of b - a.

    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44(3): the variance of a difference of correlated AUCs is that
    of the mean placement difference over positives plus that over negatives. labels, a, b: (n,).
    """
    known, kept_a, kept_b = labelled(labels, a, b)
    pos_a, neg_a = _placements(known, kept_a)
    pos_b, neg_b = _placements(known, kept_b)
    variance = sum(float(np.var(d, ddof=1)) / d.size if d.size > 1 else 0.0 for d in (pos_b - pos_a, neg_b - neg_a))
    auc_a, auc_b, se = float(pos_a.mean()), float(pos_b.mean()), float(np.sqrt(variance))
    delta = auc_b - auc_a
    return PairedAuc(auc_a=auc_a, auc_b=auc_b, delta=delta, se=se, ci=(delta - _Z95 * se, delta + _Z95 * se))


def _losses(labels: Array, scores: Array) -> Array:
    """Logloss of each labelled sample in nats, computed in float64 on clipped predictions."""
    p = np.clip(scores.astype(np.float64), PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
    losses: Array = -np.where(labels == 1, np.log(p), np.log1p(-p))
    return losses


def logloss(labels: Array, scores: Array) -> float:
    """Mean binary cross-entropy in nats; predictions are clipped to [1e-7, 1 - 1e-7]. labels, scores: (n,)."""
    return float(_losses(*labelled(labels, scores)).mean())


def logloss_delta(labels: Array, a: Array, b: Array) -> Interval:
    """Two-sided 95 % normal interval of logloss(b) - logloss(a), paired by sample. labels, a, b: (n,)."""
    known, kept_a, kept_b = labelled(labels, a, b)
    d = _losses(known, kept_b) - _losses(known, kept_a)
    half = _Z95 * float(np.std(d, ddof=1)) / np.sqrt(d.size)
    return float(d.mean() - half), float(d.mean() + half)


def pcoc(labels: Array, scores: Array) -> float:
    """Mean predicted over mean observed click rate; 1 is calibrated. labels, scores: (n,)."""
    known, kept = labelled(labels, scores)
    return float(kept.astype(np.float64).mean() / known.mean())


def gate(
    labels: Array, baseline: Array, candidate: Array, *, same_weights: bool = True, exact_baseline: bool = True
) -> Gate:
    """The serving gate, for two sets of scores on the same samples. labels and scores: (n,).

    With the same weights it passes when the two-sided 95 % paired DeLong interval of the AUC difference lies above
    -0.001, the upper end of the paired logloss difference is below +0.001 and the ratio of PCOCs is within 1 +- 0.005.
    An interval that lies above +0.001 fails, too: rounding takes knowledge from weights and adds none, so other weights
    or knowledge of the labels are at work. exact_baseline: False where the baseline itself is rounded, of which a
    candidate that is not may well be the better.
    Two models that were trained apart cannot be held to each other's scores: of them the interval of the AUC difference
    alone counts, which has to lie above -0.002. A score that is not a finite number fails the gate; of the baseline, it
    raises ValueError.
    """
    margin = AUC_MARGIN if same_weights else OTHER_WEIGHTS_AUC_MARGIN
    known, base, cand = labelled(labels, baseline, candidate)
    broken = int(np.count_nonzero(~np.isfinite(cand)))
    if broken:
        nothing = (float("nan"), float("nan"))
        reasons: tuple[str, ...] = (f"{broken} of {cand.size} scores are not finite numbers",)
        return Gate(
            verdict="fail", auc_delta=nothing[0], auc_delta_ci=nothing, margin=margin, logloss_delta_ci=nothing,
            pcoc_ratio=nothing[0], reasons=reasons,
        )  # fmt: skip
    paired, losses = delong_paired(known, base, cand), logloss_delta(known, base, cand)
    ratio = pcoc(known, cand) / pcoc(known, base)
    failed = [(not paired.ci[0] > -margin, f"AUC may fall by {-paired.ci[0]:.5f}, margin {margin}")]
    if same_weights:
        said = f"mean prediction is {ratio:.4f} of the baseline's, 1 +- {PCOC_MARGIN}"
        failed += [
            (not losses[1] < LOGLOSS_MARGIN, f"logloss may rise by {losses[1]:.5f}, margin {LOGLOSS_MARGIN}"),
            (not abs(ratio - 1.0) <= PCOC_MARGIN, said),
            (
                exact_baseline and paired.ci[0] > margin,
                f"AUC rises by {paired.ci[0]:.5f} or more, margin {margin}: the same weights predict no better",
            ),
        ]
    reasons = tuple(reason for bad, reason in failed if bad)
    return Gate(
        verdict="fail" if reasons else "pass", auc_delta=paired.delta, auc_delta_ci=paired.ci, margin=margin,
        logloss_delta_ci=losses, pcoc_ratio=ratio, reasons=reasons,
    )  # fmt: skip


def answer_tolerance(dtypes: Iterable[str]) -> float:
    """Largest allowed absolute deviation of a timed answer: that of the loosest dtype in the plan (fp32 if none).

    Raises ValueError for a dtype that has no row in ``ANSWER_TOLERANCE``.
    """
    names = {"fp32", *dtypes}
    unknown = sorted(names - ANSWER_TOLERANCE.keys())
    if unknown:
        raise ValueError(
            f"opt: a block computes in {', '.join(unknown)}, and the referee has no tolerance for such answers; it has "
            f"one for {', '.join(sorted(ANSWER_TOLERANCE))}"
        )
    return max(ANSWER_TOLERANCE[name] for name in names)


def timed_answers(reference_scores: Array, timed_scores: Array, tolerance: float) -> TimedAnswers:
    """Compare timed answers with the accuracy run's, aligned by (query, sample); a non-finite one is beyond any bound.

    reference_scores, timed_scores: (n,) float32. No answer at all is a fail: nothing was shown.
    """
    reference, timed = np.asarray(reference_scores, dtype=np.float64), np.asarray(timed_scores, dtype=np.float64)
    if reference.shape != timed.shape:
        raise ValueError(f"reference {reference.shape} and timed {timed.shape} answers must be aligned")
    deviation = np.abs(timed - reference)
    deviation[~np.isfinite(deviation)] = np.inf
    beyond = int(np.count_nonzero(deviation > tolerance))
    return TimedAnswers(
        verdict="pass" if deviation.size and not beyond else "fail", compared=deviation.size, beyond=beyond,
        largest=float(deviation.max(initial=0.0)), tolerance=tolerance,
    )  # fmt: skip
