"""From what was seen to the numbers of the result: side results, ratio, gate and validity. No process is touched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from harness.estimate.accuracy import answer_tolerance, auc, gate, logloss, pcoc, timed_answers
from harness.estimate.comparison import RatioInterval, lbt_ratio, paired_service_ratio, void_quads
from harness.estimate.lbt import LbtEstimate
from harness.measurement.evidence import Answers
from harness.measurement.quads import QuadLog
from harness.measurement.side import Side
from harness.record.result import GateResult, Interval, LbtStatus, Ratio, SideResult, Validity
from optimizations.contract import Plan
from zoo.schema import Float32

STATUS: Mapping[str, LbtStatus] = {
    "ok": "measured",
    "few_clumps": "few_clumps",
    "undetermined": "undetermined",
    "unreachable": "unreachable",
    "above_range": "beyond_range",
}


def with_accuracy(side: SideResult, labels: Float32, answers: Answers) -> SideResult:
    """AUC, logloss and PCOC of the accuracy run; None where a score is not a finite number."""
    if not np.isfinite(answers.accuracy[~np.isnan(labels)]).all():
        return side
    scores = answers.accuracy
    return dataclasses.replace(
        side, auc=auc(labels, scores), logloss=logloss(labels, scores), pcoc=pcoc(labels, scores)
    )


def with_lbt(side: SideResult, estimate: LbtEstimate | None, searched: bool) -> SideResult:
    """The LBT of the refined segments. No estimate after a search: the SLA is met at no rate."""
    if estimate is None:
        status: LbtStatus = "unreachable" if searched else "not_measured"
        return dataclasses.replace(side, lbt_qps=0.0 if searched else None, lbt_ci=None, lbt_status=status)
    return dataclasses.replace(
        side,
        lbt_qps=estimate.lbt_qps,
        lbt_ci=estimate.ci,
        lbt_status=STATUS[estimate.status],
        lbt_method=estimate.method,
        lbt_twin_correlation=estimate.correlation,
        late_clumps=estimate.clumps,
    )


def gate_result(labels: Float32, answers: Mapping[str, Answers], plan: Plan) -> GateResult:
    """R6 on the accuracy run, R4 on every timed answer, and R6 again with the timed answers put in their place."""
    baseline, candidate = answers["baseline"], answers["candidate"]
    first = gate(labels, baseline.accuracy, candidate.accuracy)
    asked = candidate.deviation >= 0.0
    tolerance = answer_tolerance(block.dtype for block in plan.pipeline.blocks)
    timed = timed_answers(candidate.accuracy[asked], candidate.timed[asked], tolerance)
    again = gate(labels, baseline.accuracy, np.where(asked, candidate.timed, candidate.accuracy))
    reasons = list(first.reasons)
    if timed.verdict == "fail":
        reasons.append(
            f"{timed.beyond} of {timed.compared} timed answers differ from the accuracy run by more than {tolerance:g} "
            f"(the farthest by {timed.largest:.2g})"
        )
    reasons += [f"timed answers: {reason}" for reason in again.reasons if reason not in first.reasons]
    return GateResult(
        verdict="fail" if reasons else "pass",
        auc_delta=first.auc_delta,
        auc_delta_ci=first.auc_delta_ci,
        margin=first.margin,
        logloss_delta_ci=first.logloss_delta_ci,
        pcoc_ratio=first.pcoc_ratio,
        timed_answers="fail" if timed.verdict == "fail" or again.verdict == "fail" else "pass",
        timed_deviation=timed.largest,
        timed_tolerance=tolerance,
        reasons=tuple(reasons),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """LBT of both sides from the quads that count, and from all of them."""

    kept: Mapping[str, LbtEstimate | None]
    everything: Mapping[str, LbtEstimate | None]
    quads: tuple[int, ...]


def ratio_result(
    sides: Mapping[str, Side], estimates: Estimates, log: QuadLog, results: Mapping[str, SideResult]
) -> Ratio:
    """Candidate over baseline: LBT by quads, service time paired, offline throughput."""
    lbt, ci, p_value, reason = _lbt_ratio(estimates.kept)
    everything, everything_ci, _, _ = _lbt_ratio(estimates.everything)
    service, service_ci, per_quad = _service_ratio(sides, estimates.quads)
    return Ratio(
        lbt=lbt,
        lbt_ci=ci,
        lbt_p=p_value,
        reason=reason,
        service=service,
        service_ci=service_ci,
        offline=_quotient(results["candidate"].offline_samples_per_s, results["baseline"].offline_samples_per_s),
        quads=tuple(per_quad),
        lbt_with_voided=everything,
        lbt_with_voided_ci=everything_ci,
    )


def _lbt_ratio(
    estimates: Mapping[str, LbtEstimate | None],
) -> tuple[float | None, Interval | None, float | None, str]:
    baseline, candidate = estimates["baseline"], estimates["candidate"]
    for name, side in estimates.items():
        if side is None:
            return None, None, None, f"the {name} has no LBT: it meets the SLA at no rate, or was not offered a rate"
    assert baseline is not None and candidate is not None
    if not baseline.lbt_qps or not candidate.lbt_qps:
        name = "baseline" if not baseline.lbt_qps else "candidate"
        return None, None, None, f"the LBT of the {name} is {STATUS[estimates[name].status]}"  # type: ignore[union-attr]
    try:
        found = lbt_ratio(baseline, candidate)
    except ValueError as too_few:
        return candidate.lbt_qps / baseline.lbt_qps, None, None, f"no interval: {too_few}"
    if found.interval is None:
        return None, None, None, found.reason
    return found.interval.ratio, found.interval.ci, found.interval.p_value, ""


def _service_ratio(
    sides: Mapping[str, Side], quads: tuple[int, ...]
) -> tuple[float | None, Interval | None, list[float]]:
    """Baseline's service time over the candidate's, on queries that both answered."""
    baseline, candidate = [], []
    for quad in quads:
        a, b = sides["baseline"].paired_service_ns[quad], sides["candidate"].paired_service_ns[quad]
        both = np.isfinite(a) & np.isfinite(b)
        if both.any():
            baseline.append(a[both])
            candidate.append(b[both])
    logs = [float(np.median(np.log(a / b))) for a, b in zip(baseline, candidate, strict=True)]
    if not logs:
        return None, None, []
    each = [math.exp(value) for value in logs]
    try:
        found: RatioInterval = paired_service_ratio(baseline, candidate)
    except ValueError:
        return math.exp(float(np.mean(logs))), None, each
    return found.ratio, found.ci, each


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def validity_of(log: QuadLog, remarks: list[str]) -> tuple[Validity, tuple[int, ...]]:
    """Verdict on the host, and the quads that count. ``remarks`` (a frozen side that ran) void the whole result."""
    verdict = void_quads(log.reasons)
    reasons = [f"quad {quad}: {reason}" for quad in sorted(log.reasons) for reason in log.reasons[quad]]
    state = "void" if remarks else "noisy_host" if verdict.noisy_host else "valid"
    return (
        Validity(verdict=state, reasons=(*reasons, *remarks), voided_quads=len(verdict.voided)),  # type: ignore[arg-type]
        verdict.kept,
    )
