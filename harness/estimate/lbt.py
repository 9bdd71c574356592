"""The LBT of one side, from segments offered around it. Pure functions.

The twin's service is what the open loop shows of it, query by query and segment by segment (``open_loop``). It replays
the very traces that the SUT got, its service scaled by one factor until it makes as many late queries as the SUT made,
as far as these know better than the work itself (``matching``). The LBT is then the twin's, in the long run, at the
mean speed of the host: the geometric mean of the LBTs at each segment's own. What chance did to the traces happens to
both and cancels; what the twin does not know shows as scatter between segments, and the jackknife measures it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.estimate.late_surface import LateSurface
from harness.estimate.leave_out import (
    Counts,
    Evidence,
    mean_log_lbt,
    shared_information,
    table_shifts,
    without_quads,
)
from harness.estimate.longrun import QueueTwin, ramp_ns
from harness.estimate.matching import fit_scale, free_scale
from harness.estimate.mg1 import NS
from harness.estimate.open_loop import open_loop_twin
from harness.estimate.regression import LateCurve, SlopePrior, crossing, fit_late_curve
from harness.estimate.replay import Replay, SegmentObservation
from harness.estimate.stats import effective_degrees, jackknife_half_width, late_clumps, t_factor
from harness.trial import Sla

Array = npt.NDArray[Any]
Status = Literal["ok", "few_clumps", "undetermined", "unreachable", "above_range"]
Method = Literal["twin", "regression"]

MIN_CORRELATION = 0.8
MIN_CLUMPS = 10
RANGE_TOLERANCE = 0.03
HOPELESS = 2.0
"""A twin for which no rate meets the SLA is believed when this many times the allowed share was late in fact."""
SLOPE_PRIOR_SD = 0.3
MAX_LOG_HALF = math.log(2.0)
"""An interval wider than a factor of 2 either way says nothing: the status is "undetermined"."""
_AROUND_SCALE = 0.1


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
    error that comes from the twin's prior, which no scatter shows. recent_log_lbt: mean log LBT at the speeds that the
    host had in the last quad; nan where there is none.
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
    recent_log_lbt: float


def _count(segments: Sequence[SegmentObservation], limit_ns: float) -> Counts:
    clumps = late = queries = 0
    for s in segments:
        keep = s.counted
        clumps += late_clumps(s.planned_ns[keep], s.latency_ns[keep], limit_ns)
        late += int(np.count_nonzero(s.latency_ns[keep] > limit_ns))
        queries += int(np.count_nonzero(keep))
    return Counts(clumps=clumps, late=late, queries=queries)


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
    used = [s for s in segments if not s.aborted]
    if len(used) < 2:
        raise ValueError(f"an LBT needs at least 2 whole segments, got {len(used)} of {len(segments)}")
    rates = [s.offered_qps for s in used]
    lowest, highest = measured_qps or (min(rates), max(rates))
    counts, opened = _count(used, sla.limit_ms * 1e6), open_loop_twin(used, twin, sla.limit_ms * 1e6)
    replay = Replay(used, opened.twin, sla.limit_ms * 1e6, opened.log_speeds, spells=opened.spells)
    scale = free_scale(replay, opened.log_sd)
    if math.isfinite(scale) and counts.late <= HOPELESS * sla.late_fraction * counts.queries:
        believed = opened.twin.believable(sla, math.exp(scale))
        if believed is not opened.twin:
            opened = dataclasses.replace(opened, twin=believed)
            replay = Replay(used, believed, sla.limit_ms * 1e6, opened.log_speeds, spells=opened.spells)
            scale = free_scale(replay, opened.log_sd)
    if not math.isfinite(scale):
        return _rootless(counts, "above_range" if scale < 0 else "undetermined", highest)
    around = opened.log_speeds + scale
    surface = LateSurface(opened.twin, sla, float(around.min()) - _AROUND_SCALE, float(around.max()) + _AROUND_SCALE)
    log_rates = np.log(rates)

    def distance(log_scale: float) -> Array:
        return log_rates - surface.log_lbt_each(opened.log_speeds + log_scale)

    fit = fit_scale(replay, opened.log_sd, distance)
    if not math.isfinite(fit.log_scale):
        return _rootless(counts, "above_range" if fit.log_scale < 0 else "undetermined", highest)
    return _with_root(
        Evidence(
            segments=used, sla=sla, counts=counts, opened=opened, surface=surface, fit=fit, lowest=lowest,
            highest=highest, closed_mean_ns=twin.service.mean_ns,
        )
    )  # fmt: skip


def _rootless(counts: Counts, status: Status, highest: float) -> LbtEstimate:
    return LbtEstimate(
        lbt_qps={"above_range": highest, "unreachable": 0.0}.get(status), ci=None, status=status, method="twin",
        correlation=0.0, clumps=counts.clumps, late=counts.late, queries=counts.queries, slope=math.nan, phi=1.0,
        service_scale=math.nan, delay_ns=0.0, speed_sd=0.0, spell_sd=0.0, quads=(), log_lbt=math.nan,
        log_lbt_without=(), quad_information=(), prior_log_sd=0.0, recent_log_lbt=math.nan,
    )  # fmt: skip


def _with_root(seen: Evidence) -> LbtEstimate:
    counts, fit, speeds, surface = seen.counts, seen.fit, seen.opened.log_speeds, seen.surface
    log_lbt = mean_log_lbt(surface, speeds + fit.log_scale)
    if not math.isfinite(log_lbt):
        return _rootless(counts, "unreachable", seen.highest)
    by_table = fit.prior_share * table_shifts(seen, log_lbt)
    without = by_table + [mean_log_lbt(surface, np.delete(speeds, i) + x) for i, x in enumerate(fit.without_segment)]
    rise = mean_log_lbt(surface, speeds + fit.log_scale - 0.01) - mean_log_lbt(surface, speeds + fit.log_scale + 0.01)
    prior_sd = fit.prior_log_sd * rise / 0.02 if math.isfinite(rise) else math.inf
    degrees = effective_degrees(shared_information(fit.information_segment, fit))
    half = math.hypot(jackknife_half_width(log_lbt, without, degrees), t_factor(degrees) * prior_sd)
    lbt = math.exp(log_lbt)
    slope = seen.opened.twin.log_slope(lbt, seen.sla, math.exp(fit.log_scale))
    curve = _late_curve(seen, slope)
    explained = fit.correlation >= MIN_CORRELATION or fit.prior_share > 0.0
    method: Method = "twin"
    ci: tuple[float, float] | None = (lbt * math.exp(-half), lbt * math.exp(half)) if half < MAX_LOG_HALF else None
    if curve and not explained and counts.clumps >= MIN_CLUMPS:
        method, (factor, (low, high)) = "regression", crossing(curve, seen.sla.late_fraction)
        lbt, ci = lbt * factor, (lbt * low, lbt * high)
    status = _status(lbt, ci, seen)
    if status == "few_clumps" and ci:
        ci = (lbt * (ci[0] / lbt) ** 2, lbt * (ci[1] / lbt) ** 2)
    return LbtEstimate(
        lbt_qps={"above_range": seen.highest, "undetermined": None}.get(status, lbt),
        ci=ci if status in ("ok", "few_clumps") else None, status=status, method=method, correlation=fit.correlation,
        clumps=counts.clumps, late=counts.late, queries=counts.queries, slope=slope, phi=curve.phi if curve else 1.0,
        service_scale=math.exp(fit.log_scale) * seen.opened.twin.service.mean_ns / seen.closed_mean_ns,
        delay_ns=seen.opened.twin.delay_ns, speed_sd=float(speeds.std()), spell_sd=seen.opened.twin.spells.log_sd,
        quads=fit.quads, log_lbt=log_lbt, log_lbt_without=without_quads(seen, by_table),
        quad_information=tuple(float(x) for x in shared_information(fit.information_quad, fit)), prior_log_sd=prior_sd,
        recent_log_lbt=mean_log_lbt(surface, speeds[[s.quad == fit.quads[-1] for s in seen.segments]] + fit.log_scale),
    )  # fmt: skip


def _late_curve(seen: Evidence, slope: float) -> LateCurve | None:
    """Regression on the segments whose ramp leaves at least half of them; None when too little is left.

    Its rates are in units of each segment's own crossing by the twin, so that a wavering speed does not blur it.
    """
    factors, late, queries = [], [], []
    own = seen.surface.log_lbt_each(seen.opened.log_speeds + seen.fit.log_scale)
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


def _status(lbt: float, ci: tuple[float, float] | None, seen: Evidence) -> Status:
    """The estimate's standing; see ``LbtEstimate``."""
    if lbt > seen.highest * (1.0 + RANGE_TOLERANCE):
        return "above_range"
    if lbt < seen.lowest / (1.0 + RANGE_TOLERANCE) or ci is None or not all(map(math.isfinite, ci)) or ci[0] <= 0:
        return "undetermined"
    return "few_clumps" if seen.counts.clumps < MIN_CLUMPS else "ok"
