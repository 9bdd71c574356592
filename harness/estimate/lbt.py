"""The LBT of one side, from segments offered around it. Pure functions.

The twin's service is what the open loop shows of it, query by query and segment by segment (``open_loop``). It replays
the very traces that the SUT got, its service scaled by one factor until it makes as many late queries as the SUT made,
as far as these know better than the work itself (``matching``). The LBT is then the twin's, in the long run, at the
mean speed of the host: the geometric mean of the LBTs at each segment's own. What chance did to the traces happens to
both and cancels; what the twin does not know shows as scatter between segments, and the jackknife measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.estimate.leave_out import shared_information, table_shifts, without_quads
from harness.estimate.longrun import QueueTwin, ramp_ns
from harness.estimate.matched_twin import Counts, CrossingPoint, MatchedTwin, Unmatched, match_twin, mean_log_lbt
from harness.estimate.mg1 import NS
from harness.estimate.regression import LateCurve, SlopePrior, crossing, fit_late_curve
from harness.estimate.replay import SegmentObservation
from harness.estimate.stats import effective_degrees, jackknife_half_width, t_factor
from harness.trial import Sla

Array = npt.NDArray[Any]
Status = Literal["ok", "few_clumps", "undetermined", "unreachable", "above_range"]
Method = Literal["twin", "regression"]

MIN_CORRELATION = 0.8
MIN_CLUMPS = 10
RANGE_TOLERANCE = 0.03
SLOPE_PRIOR_SD = 0.3
MAX_LOG_HALF = math.log(2.0)
"""An interval wider than a factor of 2 either way says nothing: the status is "undetermined"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LbtEstimate:
    """LBT of one side in queries/s with its two-sided 95 % interval.

    status: "ok"; "few_clumps" (fewer than 10 independent late clumps, interval doubled); "undetermined" (the data
    bound nothing, ci None); "unreachable" (no rate meets the SLA, LBT 0); "above_range" (beyond the measured rates:
    lbt_qps is the highest of them, a lower bound, ci None). method: which estimator gave the number. correlation: of
    SUT and twin. clumps, late, queries: of the counted part. slope: d log(late) / d log(rate) at the LBT by the twin.
    phi: dispersion of late counts. service_scale: mean service here over that of the closed loop. delay_ns: of the
    twin. speed_sd: spread of the segments' log speeds; spell_sd: of spells within them. For paired comparison, all
    empty when there is no root: quads: their numbers; log_lbt: log LBT by the twin; log_lbt_without: the same with each
    quad left out in turn; quad_information: how much each quad knows. prior_log_sd: the part of log LBT's standard
    error that comes from the twin's prior, which no scatter shows.
    """

    lbt_qps: float | None
    ci: tuple[float, float] | None
    status: Status
    method: Method
    correlation: float
    clumps: int
    late: int
    queries: int
    slope: float
    phi: float
    service_scale: float
    delay_ns: float
    speed_sd: float
    spell_sd: float
    quads: tuple[int, ...]
    log_lbt: float
    log_lbt_without: tuple[float, ...]
    quad_information: tuple[float, ...]
    prior_log_sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """Of the rates that a side was offered, in queries/s."""

    lowest: float
    highest: float


def estimate_lbt(
    segments: Sequence[SegmentObservation],
    twin: QueueTwin,
    sla: Sla,
    measured_qps: tuple[float, float] | None = None,
) -> LbtEstimate:
    """LBT of one side from its refined segments (at least 2 that were not aborted; raises ValueError otherwise).

    twin: with the closed loop's service table. measured_qps: lowest and highest rate that was offered to this side at
    all, probes included; by default those of the segments. A root more than 3 % outside them is not reported.
    """
    seen = match_twin(segments, twin, sla)
    rates = [s.offered_qps for s in segments if not s.aborted]
    lowest, highest = measured_qps or (min(rates), max(rates))
    if isinstance(seen, Unmatched):
        return _rootless(seen.counts, "above_range" if seen.log_scale < 0 else "undetermined", highest)
    if seen.crossing is None:
        return _rootless(seen.counts, "unreachable", highest)
    return _with_root(seen, seen.crossing, _Range(lowest=lowest, highest=highest), twin.service.mean_ns)


def _rootless(counts: Counts, status: Status, highest: float) -> LbtEstimate:
    return LbtEstimate(
        lbt_qps={"above_range": highest, "unreachable": 0.0}.get(status), ci=None, status=status, method="twin",
        correlation=0.0, clumps=counts.clumps, late=counts.late, queries=counts.queries, slope=math.nan, phi=1.0,
        service_scale=math.nan, delay_ns=0.0, speed_sd=0.0, spell_sd=0.0, quads=(), log_lbt=math.nan,
        log_lbt_without=(), quad_information=(), prior_log_sd=0.0,
    )  # fmt: skip


def _with_root(seen: MatchedTwin, at: CrossingPoint, measured: _Range, closed_mean_ns: float) -> LbtEstimate:
    counts, fit, speeds, surface, log_lbt = seen.counts, seen.fit, seen.opened.log_speeds, seen.surface, at.log_lbt
    by_table = fit.prior_share * table_shifts(seen)
    without = by_table + [mean_log_lbt(surface, np.delete(speeds, i) + x) for i, x in enumerate(fit.without_segment)]
    rise = mean_log_lbt(surface, speeds + fit.log_scale - 0.01) - mean_log_lbt(surface, speeds + fit.log_scale + 0.01)
    prior_sd = fit.prior_log_sd * rise / 0.02 if math.isfinite(rise) else math.inf
    degrees = effective_degrees(shared_information(fit.information_segment, fit))
    half = math.hypot(jackknife_half_width(log_lbt, without, degrees), t_factor(degrees) * prior_sd)
    lbt = math.exp(log_lbt)
    curve = _late_curve(seen, at.slope)
    explained = fit.correlation >= MIN_CORRELATION or fit.prior_share > 0.0
    method: Method = "twin"
    ci: tuple[float, float] | None = (lbt * math.exp(-half), lbt * math.exp(half)) if half < MAX_LOG_HALF else None
    if curve and not explained and counts.clumps >= MIN_CLUMPS:
        method, (factor, (low, high)) = "regression", crossing(curve, seen.sla.late_fraction)
        lbt, ci = lbt * factor, (lbt * low, lbt * high)
    status = _status(lbt, ci, counts, measured)
    if status == "few_clumps" and ci:
        ci = (lbt * (ci[0] / lbt) ** 2, lbt * (ci[1] / lbt) ** 2)
    return LbtEstimate(
        lbt_qps={"above_range": measured.highest, "undetermined": None}.get(status, lbt),
        ci=ci if status in ("ok", "few_clumps") else None, status=status, method=method, correlation=fit.correlation,
        clumps=counts.clumps, late=counts.late, queries=counts.queries, slope=at.slope, phi=curve.phi if curve else 1.0,
        service_scale=math.exp(fit.log_scale) * seen.opened.twin.service.mean_ns / closed_mean_ns,
        delay_ns=seen.opened.twin.delay_ns, speed_sd=float(speeds.std()), spell_sd=seen.opened.twin.spells.log_sd,
        quads=fit.quads, log_lbt=log_lbt, log_lbt_without=without_quads(seen, by_table),
        quad_information=tuple(float(x) for x in shared_information(fit.information_quad, fit)), prior_log_sd=prior_sd,
    )  # fmt: skip


def _late_curve(seen: MatchedTwin, slope: float) -> LateCurve | None:
    """Regression on the segments whose ramp leaves at least half of them; None when too little is left.

    Its rates are in units of each segment's own crossing by the twin, so that a wavering speed does not blur it.
    """
    factors, late, queries = [], [], []
    own = seen.surface.log_lbt_each(seen.opened.log_speeds + seen.log_scale)
    for s, log_crossing in zip(seen.segments, own, strict=True):
        ramp = ramp_ns(seen.opened.twin, s.offered_qps)
        if ramp > 0.5 * s.duration_s * NS or not math.isfinite(log_crossing):
            continue
        keep = s.planned_ns >= ramp
        factors.append(s.offered_qps / math.exp(log_crossing))
        late.append(int(np.count_nonzero(s.latency_ns[keep] > seen.sla.limit_ms * 1e6)))
        queries.append(int(np.count_nonzero(keep)))
    if len(factors) < 3 or sum(late) == 0:
        return None
    prior = SlopePrior(mean=slope, sd=max(SLOPE_PRIOR_SD * slope, 0.2))
    return fit_late_curve(np.array(factors), np.array(late), np.array(queries), prior)


def _status(lbt: float, ci: tuple[float, float] | None, counts: Counts, measured: _Range) -> Status:
    """The estimate's standing; see ``LbtEstimate``."""
    if lbt > measured.highest * (1.0 + RANGE_TOLERANCE):
        return "above_range"
    if lbt < measured.lowest / (1.0 + RANGE_TOLERANCE) or ci is None or not all(map(math.isfinite, ci)) or ci[0] <= 0:
        return "undetermined"
    return "few_clumps" if counts.clumps < MIN_CLUMPS else "ok"
