"""The LBT of one side, from segments offered around it. Pure functions.

The twin replays the very traces that the SUT got, its service scaled by one factor until it makes as many late queries
as the SUT made. The LBT is then the twin's, in the long run, at that factor. What chance did to the traces happens to
both and cancels; what the twin does not know shows as scatter between segments, and the jackknife measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import interpolate

from harness.estimate.longrun import QueueTwin, ramp_ns
from harness.estimate.matching import TwinFit, fit_twin
from harness.estimate.mg1 import NS
from harness.estimate.regression import LateCurve, SlopePrior, crossing, fit_late_curve
from harness.estimate.replay import SegmentObservation
from harness.estimate.stats import effective_degrees, jackknife_half_width, late_clumps
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
_CURVE_POINTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LbtEstimate:
    """LBT of one side in queries/s with its two-sided 95 % interval.

    status: "ok"; "few_clumps" (fewer than 10 independent late clumps, interval doubled); "undetermined" (the data
    bound nothing, ci None); "unreachable" (no rate meets the SLA, LBT 0); "above_range" (beyond the measured rates:
    lbt_qps is the highest of them, a lower bound, ci None). method: which estimator gave the number. correlation: of
    SUT and twin. clumps, late, queries: of the counted part. slope: d log(late) / d log(rate) at the LBT by the twin.
    phi: dispersion of late counts. service_scale: factor on the twin's service. For paired comparison, all empty when
    there is no root: quads: their numbers; log_lbt_without: log LBT by the twin with each of them left out in turn;
    quad_information: how much each knows.
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
    quads: tuple[int, ...]
    log_lbt_without: tuple[float, ...]
    quad_information: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    clumps: int
    late: int
    queries: int


def _count(segments: Sequence[SegmentObservation], limit_ns: float) -> _Counts:
    clumps = late = queries = 0
    for s in segments:
        keep = s.counted
        clumps += late_clumps(s.planned_ns[keep], s.latency_ns[keep], limit_ns)
        late += int(np.count_nonzero(s.latency_ns[keep] > limit_ns))
        queries += int(np.count_nonzero(keep))
    return _Counts(clumps=clumps, late=late, queries=queries)


def _late_curve(segments: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla, slope: float) -> LateCurve | None:
    """Regression on the segments whose ramp leaves at least half of them; None when too little is left."""
    rates, late, queries = [], [], []
    for s in segments:
        ramp = ramp_ns(twin, s.offered_qps)
        if ramp > 0.5 * s.duration_s * NS:
            continue
        keep = s.planned_ns >= ramp
        rates.append(s.offered_qps)
        late.append(int(np.count_nonzero(s.latency_ns[keep] > sla.limit_ms * 1e6)))
        queries.append(int(np.count_nonzero(keep)))
    if len(rates) < 3 or sum(late) == 0:
        return None
    prior = SlopePrior(mean=slope, sd=max(SLOPE_PRIOR_SD * slope, 0.2))
    return fit_late_curve(np.array(rates), np.array(late), np.array(queries), prior)


def _log_lbt(twin: QueueTwin, sla: Sla, log_scales: Array) -> Array:
    """Log of the twin's long-run LBT at each service scale, a smooth curve through few points; -inf where it is 0."""

    def exact(points: Array) -> Array:
        with np.errstate(divide="ignore"):
            logs: Array = np.log(np.array([twin.lbt_qps(sla, math.exp(x)) for x in points]))
        return logs

    grid = np.linspace(float(log_scales.min()) - 1e-3, float(log_scales.max()) + 1e-3, _CURVE_POINTS)
    values = exact(grid)
    if not np.isfinite(values).all():
        return exact(log_scales)
    smooth: Array = interpolate.PchipInterpolator(grid, values)(log_scales)
    return smooth


def estimate_lbt(
    segments: Sequence[SegmentObservation],
    twin: QueueTwin,
    sla: Sla,
    measured_qps: tuple[float, float] | None = None,
) -> LbtEstimate:
    """LBT of one side from its refined segments (at least 2 that were not aborted; raises ValueError otherwise).

    measured_qps: lowest and highest rate that was offered to this side at all, probes included; by default those of
    the segments. A root more than 3 % outside them is not reported.
    """
    used = [s for s in segments if not s.aborted]
    if len(used) < 2:
        raise ValueError(f"an LBT needs at least 2 whole segments, got {len(used)} of {len(segments)}")
    rates = [s.offered_qps for s in used]
    lowest, highest = measured_qps or (min(rates), max(rates))
    counts, fit = _count(used, sla.limit_ms * 1e6), fit_twin(used, twin, sla)
    if math.isfinite(fit.log_scale) and counts.late <= HOPELESS * sla.late_fraction * counts.queries:
        believed = twin.believable(sla, math.exp(fit.log_scale))
        fit, twin = (fit, twin) if believed is twin else (fit_twin(used, believed, sla), believed)
    if not math.isfinite(fit.log_scale):
        return _rootless(counts, "above_range" if fit.log_scale < 0 else "undetermined", highest)
    return _with_root(used, twin, sla, _Evidence(counts=counts, fit=fit, lowest=lowest, highest=highest))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    counts: _Counts
    fit: TwinFit
    lowest: float
    highest: float


def _rootless(counts: _Counts, status: Status, highest: float) -> LbtEstimate:
    return LbtEstimate(
        lbt_qps={"above_range": highest, "unreachable": 0.0}.get(status), ci=None, status=status, method="twin",
        correlation=0.0, clumps=counts.clumps, late=counts.late, queries=counts.queries, slope=math.nan, phi=1.0,
        service_scale=math.nan, quads=(), log_lbt_without=(), quad_information=(),
    )  # fmt: skip


def _with_root(segments: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla, evidence: _Evidence) -> LbtEstimate:
    counts, fit = evidence.counts, evidence.fit
    scales = np.concatenate(([fit.log_scale], fit.without_segment, fit.without_quad))
    log_lbts = _log_lbt(twin, sla, scales)
    if not math.isfinite(log_lbts[0]):
        return _rootless(counts, "unreachable", evidence.highest)
    n = fit.without_segment.size
    degrees = effective_degrees(fit.information_segment)
    lbt, half = math.exp(log_lbts[0]), jackknife_half_width(log_lbts[0], log_lbts[1 : 1 + n], degrees)
    slope = twin.log_slope(lbt, sla, math.exp(fit.log_scale))
    curve = _late_curve(segments, twin, sla, slope)
    method: Method = "twin" if fit.correlation >= MIN_CORRELATION else "regression"
    ci: tuple[float, float] | None = (lbt * math.exp(-half), lbt * math.exp(half)) if half < MAX_LOG_HALF else None
    if method == "regression":
        lbt, ci = crossing(curve, sla.late_fraction) if curve else (lbt, None)
    status = _status(lbt, ci, evidence)
    if status == "few_clumps" and ci:
        ci = (lbt * (ci[0] / lbt) ** 2, lbt * (ci[1] / lbt) ** 2)
    return LbtEstimate(
        lbt_qps={"above_range": evidence.highest, "undetermined": None}.get(status, lbt),
        ci=ci if status in ("ok", "few_clumps") else None, status=status, method=method, correlation=fit.correlation,
        clumps=counts.clumps, late=counts.late, queries=counts.queries, slope=slope, phi=curve.phi if curve else 1.0,
        service_scale=math.exp(fit.log_scale), quads=fit.quads,
        log_lbt_without=tuple(float(x) for x in log_lbts[1 + n :]),
        quad_information=tuple(float(x) for x in fit.information_quad),
    )  # fmt: skip


def _status(lbt: float, ci: tuple[float, float] | None, evidence: _Evidence) -> Status:
    """The estimate's standing; see ``LbtEstimate``."""
    if lbt > evidence.highest * (1.0 + RANGE_TOLERANCE):
        return "above_range"
    if lbt < evidence.lowest / (1.0 + RANGE_TOLERANCE) or ci is None or not all(map(math.isfinite, ci)) or ci[0] <= 0:
        return "undetermined"
    return "few_clumps" if evidence.counts.clumps < MIN_CLUMPS else "ok"
