"""The floor: the same load against a system that does nothing, which shows what the referee itself costs."""

from __future__ import annotations

import numpy as np

from harness.estimate.stats import percentile
from harness.measurement.bench import Bench, Stretch
from harness.record.result import Floor

NULL = "floor"
FLOOR_QPS = 1000.0
PROBE_S = 1.25
TRIES = 3
HEADROOM = 5.0
"""A result is bound by the referee when the null system's LBT is under this many times the reported one (R10)."""


def floor_latency(bench: Bench) -> Floor:
    """p50 and p99 of the null system at 1,000 queries/s."""
    stretch = Stretch(purpose="floor", index=0, rate_qps=FLOOR_QPS, seconds=1.0 + bench.budget.floor_s)
    seen = bench.open_loop(NULL, stretch)
    latency = seen.latency_ns[seen.counted]
    p50, p99 = percentile(latency, 0.50), percentile(latency, 0.99)
    return Floor(p50_ms=_ms(p50), p99_ms=_ms(p99), lbt_qps=None)


def null_p99_ns(bench: Bench, index: int) -> float:
    """p99 of a short null probe at 1,000 queries/s: outside evidence for a quad (R16)."""
    stretch = Stretch(purpose="floor", index=1000 + index, rate_qps=FLOOR_QPS, seconds=PROBE_S)
    seen = bench.open_loop(NULL, stretch)
    return float(np.quantile(seen.latency_ns, 0.99, method="higher"))


def floor_lbt(bench: Bench, floor: Floor, reported_qps: float) -> Floor:
    """The null system's LBT, by doubling until it is late too often or far above ``reported_qps``."""
    rate, passed = FLOOR_QPS, 0.0
    enough = HEADROOM * reported_qps
    index = 1
    while passed < enough and _holds(bench, rate, index):
        passed, index = rate, index + TRIES
        rate = min(2.0 * rate, max(1.02 * enough, 1.25 * rate))
    return Floor(p50_ms=floor.p50_ms, p99_ms=floor.p99_ms, lbt_qps=passed, referee_bound=passed < enough)


def _holds(bench: Bench, rate_qps: float, index: int) -> bool:
    """Whether one of ``TRIES`` probes meets the SLA: one stall of the host is not the referee's limit."""
    for attempt in range(TRIES):
        stretch = Stretch(purpose="floor", index=index + attempt, rate_qps=rate_qps, seconds=PROBE_S)
        seen = bench.open_loop(NULL, stretch)
        if np.mean(seen.latency_ns > bench.limit_ns) <= bench.trial.sla.late_fraction:
            return True
    return False


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None or not np.isfinite(value_ns) else value_ns / 1e6
