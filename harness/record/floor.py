"""The floor's numbers: what the same load does to a system that does nothing (R10, R16). Pure functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.estimate.replay import SegmentObservation
from harness.estimate.stats import percentile
from harness.options import UNCOUNTED_S, Budget
from harness.record.derive import milliseconds
from harness.record.result import Floor
from harness.trial import Sla

FLOOR_QPS = 1000.0
TRIES = 3
HEADROOM = 5.0
"""A result is bound by the referee when the null system's LBT is under this many times the reported one (R10)."""
MARGIN = 1.02
PROBE_S = 1.25
"""Seconds of every probe of the null system but the first, which the latencies are of."""
NULL_PROBES = 1000
"""Index of the trace of the first null probe beside a quad; those below it are of the floor itself."""


def floor_s(budget: Budget) -> float:
    """Seconds of that first one, trace 0."""
    return UNCOUNTED_S + budget.floor_s


def floor_latency(seen: SegmentObservation) -> Floor:
    """p50 and p99 of the null system at 1,000 queries/s."""
    latency = seen.latency_ns[seen.counted]
    p50, p99 = percentile(latency, 0.50), percentile(latency, 0.99)
    return Floor(p50_ms=milliseconds(p50), p99_ms=milliseconds(p99), lbt_qps=None)


def null_p99_ns(seen: SegmentObservation) -> float:
    """p99 of a short null probe at 1,000 queries/s: outside evidence for a quad (R16)."""
    return float(np.quantile(seen.latency_ns, 0.99, method="higher"))


def holds(seen: SegmentObservation, sla: Sla) -> bool:
    """Whether a probe of the floor meets the SLA, its first second included."""
    return bool(np.mean(seen.latency_ns > int(sla.limit_ms * 1e6)) <= sla.late_fraction)


def find_floor(floor: Floor, reported_qps: float, probe: Callable[[float, int], bool]) -> Floor:
    """The null system's LBT, by halving from far above ``reported_qps`` until it holds (0: not asked).

    ``probe(rate_qps, index)``: whether the null system holds a rate under the trace of that index. One of ``TRIES``
    is enough: one stall of the host is not the referee's limit. From above, since as a rule the first rate holds.
    """
    if not reported_qps:
        return floor
    enough = HEADROOM * reported_qps
    rate, index, held = max(MARGIN * enough, FLOOR_QPS), 1, 0.0
    while not held and rate >= min(FLOOR_QPS, enough):
        if any(probe(rate, index + attempt) for attempt in range(TRIES)):
            held = rate
        rate, index = rate / 2.0, index + TRIES
    return Floor(p50_ms=floor.p50_ms, p99_ms=floor.p99_ms, lbt_qps=held, referee_bound=held < enough)
