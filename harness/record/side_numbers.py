"""The numbers of one side, from its raw columns: the same functions for the run that measures and for who verifies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from harness.estimate.accuracy import auc, logloss, pcoc
from harness.estimate.lbt import LbtEstimate, estimate_lbt
from harness.estimate.longrun import QueueTwin
from harness.estimate.matched_twin import FEWEST_SEGMENTS
from harness.estimate.replay import SegmentObservation
from harness.estimate.stats import percentile
from harness.record.derive import milliseconds, percentile_ms
from harness.record.segments import SegmentRows, of_purpose
from harness.record.service import service_samples, service_times, slack
from harness.record.side_result import Latency, LbtStatus, SideResult, SingleStream
from harness.trial import Sla
from zoo.schema import Float32

STATUS: Mapping[str, LbtStatus] = {
    "ok": "measured",
    "few_clumps": "few_clumps",
    "undetermined": "undetermined",
    "unreachable": "unreachable",
    "above_range": "beyond_range",
}


def lbt_of(
    probes: Sequence[SegmentObservation],
    refined: Sequence[SegmentObservation],
    twin: QueueTwin,
    sla: Sla,
    quads: Collection[int] | None = None,
) -> LbtEstimate | None:
    """LBT from the refined segments of ``quads`` (None: all); None when no rate meets the SLA or too few ran.

    A segment that had to be cut short was the worst of all: without it the LBT would be overstated, so there is none.
    """
    asked = [s for s in refined if quads is None or s.quad in quads]
    used = [s for s in asked if not s.aborted]
    if len(used) < FEWEST_SEGMENTS:
        return None
    rates = [s.offered_qps for s in (*probes, *refined)]
    found = estimate_lbt(used, twin, sla, (min(rates), max(rates)))
    return (
        found if len(used) == len(asked) else dataclasses.replace(found, status="undetermined", lbt_qps=None, ci=None)
    )


def with_columns(side: SideResult, rows: Sequence[SegmentRows], limit_ns: int) -> SideResult:
    """Service times, slack, latencies, single stream and offline throughput. ``rows``: the side's segments."""
    samples = service_samples(of_purpose(rows, "service"))
    return dataclasses.replace(
        side,
        slack=slack(samples, limit_ns),
        service_ms=service_times(samples),
        latency_ms=latency(of_purpose(rows, "latency")),
        single_stream_ms=single_stream(of_purpose(rows, "single_stream")),
        offline_samples_per_s=offline_samples_per_s(of_purpose(rows, "offline")),
    )


def with_accuracy(side: SideResult, labels: Float32, scores: Float32) -> SideResult:
    """AUC, logloss and PCOC of the accuracy run; None where a score is not a finite number."""
    if not np.isfinite(scores[~np.isnan(labels)]).all():
        return dataclasses.replace(side, auc=None, logloss=None, pcoc=None)
    return dataclasses.replace(
        side, auc=auc(labels, scores), logloss=logloss(labels, scores), pcoc=pcoc(labels, scores)
    )


def with_lbt(side: SideResult, estimate: LbtEstimate | None, searched: bool) -> SideResult:
    """The LBT of the refined segments. No estimate after a search: the SLA is met at no rate."""
    if estimate is None:
        return dataclasses.replace(
            side,
            lbt_qps=0.0 if searched else None,
            lbt_ci=None,
            lbt_status="unreachable" if searched else "not_measured",
            lbt_method="",
            lbt_twin_correlation=None,
            lbt_slope=None,
            lbt_service_scale=None,
            lbt_speed_sd=None,
            lbt_spell_sd=None,
            lbt_delay_ms=None,
            late_clumps=None,
        )
    return dataclasses.replace(
        side,
        lbt_qps=estimate.lbt_qps,
        lbt_ci=estimate.ci,
        lbt_status=STATUS[estimate.status],
        lbt_method=estimate.method,
        lbt_twin_correlation=estimate.correlation,
        lbt_slope=estimate.slope if math.isfinite(estimate.slope) else None,
        lbt_service_scale=estimate.service_scale if math.isfinite(estimate.service_scale) else None,
        lbt_speed_sd=estimate.speed_sd,
        lbt_spell_sd=estimate.spell_sd,
        lbt_delay_ms=estimate.delay_ns / 1e6,
        late_clumps=estimate.clumps,
    )


def latency(segments: Sequence[SegmentRows]) -> Latency:
    """Percentiles of the segment at 70 % of the side's LBT, its first second left out; empty where it did not run."""
    if not segments:
        return Latency(p50=None, p90=None, p99=None, p999=None)
    seen = segments[-1].observation()
    values = seen.latency_ns[seen.counted] / 1e6
    return Latency(
        p50=percentile_ms(values, 0.50),
        p90=percentile_ms(values, 0.90),
        p99=percentile_ms(values, 0.99),
        p999=percentile_ms(values, 0.999),
        offered_qps=seen.offered_qps,
        queries=len(values),
    )


def single_stream(segments: Sequence[SegmentRows]) -> SingleStream:
    """Percentiles of a client that waits for each answer, over all of its segments."""
    times = np.concatenate([np.zeros(0), *(segment.service_ns for segment in segments)])
    p50, p99 = percentile(times, 0.50), percentile(times, 0.99)
    return SingleStream(p50=milliseconds(p50), p99=milliseconds(p99), queries=len(times))


def offline_samples_per_s(segments: Sequence[SegmentRows]) -> float | None:
    """Samples per second with many queries waiting, over all segments of the quads (scenario=offline), else of the one
    beside them; None without an answer."""
    spans = [_answered(segment) for segment in _of_quads(segments) or segments[-1:] if segment.answered.any()]
    samples, taken_ns = (sum(column) for column in zip(*spans, strict=True)) if spans else (0, 0)
    return samples / (taken_ns / 1e9) if taken_ns else None


def _of_quads(segments: Sequence[SegmentRows]) -> list[SegmentRows]:
    return [segment for segment in segments if segment.info.quad >= 0]


def _answered(segment: SegmentRows) -> tuple[int, int]:
    """(samples of a segment that were answered, ns from the first one's sending to the last one's answer)."""
    size, sent, done = (segment.columns[name][segment.answered] for name in ("size", "sent_ns", "done_ns"))
    return int(size.sum()), int(done.max() - sent.min())
