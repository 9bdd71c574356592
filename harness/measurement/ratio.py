"""The ratio of a result: what the candidate does beside the baseline, in LBT, service time and offline throughput."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.estimate.comparison import MIN_QUADS, RatioInterval, in_words, lbt_ratio, paired_service_ratio
from harness.estimate.lbt import LbtEstimate
from harness.measurement.preparation import BASELINE, CANDIDATE
from harness.record.new_queries import KNOWN, NEW, gains_on, mean_gain
from harness.record.result import Ratio
from harness.record.segments import SegmentRows, of_purpose
from harness.record.side_numbers import STATUS
from harness.record.side_result import Interval, SideResult

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """LBT of each side from the quads that count, and from all of them."""

    kept: Mapping[str, LbtEstimate | None]
    everything: Mapping[str, LbtEstimate | None]


def ratio_result(
    rows: Sequence[SegmentRows],
    estimates: Estimates,
    quads: tuple[int, ...],
    kept: tuple[int, ...],
    results: Mapping[str, SideResult],
) -> Ratio:
    """Candidate over baseline: LBT by quads, service time paired, offline throughput.

    rows: all segments of the trial; quads: all that ran; kept: those that count; results: the sides' other numbers.
    """
    lbt, ci, p_value, reason = _lbt_ratio(estimates.kept, len(kept))
    everything, everything_ci, _, _ = _lbt_ratio(estimates.everything, len(quads))
    service, service_ci, per_quad = _service_ratio(
        [(_paired_ns(rows, BASELINE, quad), _paired_ns(rows, CANDIDATE, quad)) for quad in kept]
    )
    new, known = (gains_on(rows, purpose, (BASELINE, CANDIDATE)) for purpose in (NEW, KNOWN))
    return Ratio(
        lbt=lbt,
        lbt_ci=ci,
        lbt_p=p_value,
        reason=reason,
        service=service,
        service_ci=service_ci,
        offline=_quotient(results[CANDIDATE].offline_samples_per_s, results[BASELINE].offline_samples_per_s),
        quads=tuple(per_quad),
        lbt_with_voided=everything,
        lbt_with_voided_ci=everything_ci,
        service_new=mean_gain(new),
        service_known=mean_gain(known),
        known_over_new=tuple(b / a for a, b in zip(new, known, strict=False)),
    )


def _lbt_ratio(
    estimates: Mapping[str, LbtEstimate | None], quads: int
) -> tuple[float | None, Interval | None, float | None, str]:
    baseline, candidate = estimates["baseline"], estimates["candidate"]
    for name, side in estimates.items():
        if side is None:
            return None, None, None, f"the {name} has no LBT: it meets the SLA at no rate, or was not offered a rate"
    assert baseline is not None and candidate is not None
    if not baseline.lbt_qps or not candidate.lbt_qps:
        name = "baseline" if not baseline.lbt_qps else "candidate"
        status = baseline.status if name == "baseline" else candidate.status
        few = quads < MIN_QUADS and status == "undetermined"
        why = f"{in_words(quads)}, where a measurement takes at least {MIN_QUADS}: " if few else ""
        return None, None, None, f"{why}the LBT of the {name} is {STATUS[status]}"
    try:
        found = lbt_ratio(baseline, candidate)
    except ValueError as too_few:
        return candidate.lbt_qps / baseline.lbt_qps, None, None, f"no interval: {too_few}"
    if found.interval is None:
        return found.indicative, None, None, found.reason
    return found.interval.ratio, found.interval.ci, found.interval.p_value, ""


def _paired_ns(rows: Sequence[SegmentRows], side: str, quad: int) -> Times:
    """Service times of the paired queries of one side in one quad, NaN where one was not asked or not answered."""
    parts = [np.zeros(0)]
    for row in of_purpose(rows, "paired", side):
        if row.info.quad == quad:
            times = np.full(row.info.asked, np.nan)
            times[: len(row)] = np.where(row.answered, row.service_ns, np.nan)
            parts.append(times)
    return np.concatenate(parts)


def _service_ratio(quads: Sequence[tuple[Times, Times]]) -> tuple[float | None, Interval | None, list[float]]:
    """Baseline's service time over the candidate's, on queries that both answered."""
    baseline, candidate = [], []
    for a, b in quads:
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
