"""The accuracy gate on what the sides answered, in the accuracy run and while they were timed. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.errors import SutFailure
from harness.estimate.accuracy import answer_tolerance, gate, timed_answers
from harness.measurement.evidence import Answers
from harness.record.result import GateResult, PlanLine
from harness.record.side_result import Interval
from zoo.schema import Float32


def allowed_deviation(plan: Sequence[PlanLine]) -> float | None:
    """How far the scores of this plan may be from the baseline's: the most that one of its optimizations declares. None
    in the open division, and in a record that does not tell."""
    declared = [line.score_tolerance for line in plan if line.division == "closed"]
    known = [tolerance for tolerance in declared if tolerance is not None]
    return max(known, default=None) if len(known) == len(plan) else None


def gate_result(
    labels: Float32,
    answers: Mapping[str, Answers],
    dtypes: Iterable[str],
    allowed: float | None,
    *,
    same_weights: bool = True,
    exact_baseline: bool = True,
) -> GateResult:
    """R6 on the accuracy run, R4 on every timed answer, and R6 again with the timed answers put in their place.

    allowed: how far a score may be from the baseline's (``allowed_deviation``): an AUC hardly sees a model that is
    another one for few samples, and the closed division is the same mathematics for each. None: not judged.
    same_weights: False where a side is a peer with a model of its own; exact_baseline: False where the baseline
    computes in less than fp32; see ``harness.estimate.accuracy.gate``.
    """
    kind = {"same_weights": same_weights, "exact_baseline": exact_baseline}
    baseline, candidate = answers["baseline"], answers["candidate"]
    first = gate(labels, baseline.accuracy, candidate.accuracy, **kind)
    moved = None if allowed is None else _farthest(labels, baseline.accuracy, candidate.accuracy)
    asked = candidate.deviation >= 0.0
    tolerance = answer_tolerance(dtypes)
    timed = timed_answers(candidate.accuracy[asked], candidate.timed[asked], tolerance)
    put_in = np.where(asked, candidate.timed, candidate.accuracy)
    again = gate(labels, baseline.accuracy, put_in, **kind)
    reasons = list(first.reasons)
    if moved is not None and allowed is not None and moved > allowed:
        reasons.append(
            f"a score is {moved:.2g} from the baseline's; of the closed division, this plan declares {allowed:g}"
        )
    if timed.verdict == "fail":
        finite = math.isfinite(timed.largest)
        farthest = f"the farthest by {timed.largest:.2g}" if finite else "some are no answers at all"
        reasons.append(
            f"{timed.beyond} of {timed.compared} timed answers differ from the accuracy run by more than {tolerance:g} "
            f"({farthest})"
        )
    cheaper = again.verdict == "fail" and first.verdict == "pass"  # what the accuracy run failed is no news
    if cheaper:
        reasons += [f"timed answers: {reason}" for reason in again.reasons]
    return GateResult(
        verdict="fail" if reasons else "pass",
        auc_delta=first.auc_delta,
        auc_delta_ci=_known(first.auc_delta_ci),
        margin=first.margin,
        logloss_delta_ci=_known(first.logloss_delta_ci),
        pcoc_ratio=first.pcoc_ratio,
        timed_answers="fail" if timed.verdict == "fail" or cheaper else "pass",
        score_deviation=moved,
        score_tolerance=allowed,
        timed_deviation=timed.largest,
        timed_tolerance=tolerance,
        reasons=tuple(reasons),
        same_weights=same_weights,
    )


def unsteady(baseline: Answers, dtypes: Iterable[str]) -> tuple[str, ...]:
    """R4 on the side that the gate compares with: what it answered while it was timed is what it answered before."""
    asked, tolerance = baseline.deviation >= 0.0, answer_tolerance(dtypes)
    timed = timed_answers(baseline.accuracy[asked], baseline.timed[asked], tolerance)
    if not timed.beyond:
        return ()
    return (
        f"{timed.beyond} of {timed.compared} timed answers of the baseline differ from its accuracy run by more than "
        f"{tolerance:g}",
    )


def require_yardstick(labels: Float32, baseline: Float32) -> None:
    """Raises SutFailure where the baseline's scores of the accuracy run are no yardstick: some are no numbers."""
    known = ~np.isnan(labels)
    broken = np.count_nonzero(known & ~np.isfinite(baseline))
    if broken:
        raise SutFailure(
            f"The baseline answered {broken} of the {np.count_nonzero(known)} labelled samples of the test split with "
            "no finite number, so that no candidate can be compared with it: see to the weights that it serves "
            "(model.weights), or measure opt=[] alone."
        )


def _farthest(labels: Float32, baseline: Float32, candidate: Float32) -> float | None:
    """Largest distance of two scores of a sample whose label is known; None where one of them is no number, which the
    gate has said."""
    known = ~np.isnan(labels)
    distances = np.abs(candidate[known].astype(np.float64) - baseline[known])
    return float(distances.max(initial=0.0)) if np.isfinite(distances).all() else None


def _known(interval: Interval) -> Interval | None:
    """None for an interval without numbers, as of scores that are none: a record of two empty bounds cannot be read."""
    return interval if all(map(math.isfinite, interval)) else None
