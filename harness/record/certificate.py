"""The certificate: a rate that a fresh process holds on traces that nothing was tuned on (R8). Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from harness.estimate.replay import SegmentObservation
from harness.estimate.stats import queries_needed
from harness.record.result import Attempt, Certificate
from harness.record.side_result import Interval
from harness.traffic.published import HELD_OUT_PURPOSE, HELD_OUT_SEEDS
from harness.trial import Sla

PURPOSE = HELD_OUT_PURPOSE
BLOCKS = 30
CONFIDENCE = 0.95
CAUTION = 0.95
"""The claim is at most this share of the estimate, however narrow the interval."""
RETREAT = 0.97
"""By so much a claim is lowered after it failed."""

Offer = Callable[[float, int], SegmentObservation]
"""Offer a rate on the held-out trace of this number to a fresh process."""


def claimed_qps(lbt_qps: float, ci: Interval) -> float:
    """The rate that is claimed: the lower bound, or 95 % of the estimate if that is less."""
    return min(ci[0], CAUTION * lbt_qps)


def certify(claim_qps: float, offer: Offer, sla: Sla) -> Certificate:
    """Try the claim; lower it by 3 % with the next held-out seed when it fails, as long as there is one."""
    attempts: list[Attempt] = []
    rate = claim_qps
    for number in range(len(HELD_OUT_SEEDS)):
        attempts.append(judge(offer(rate, number), rate, sla))
        if attempts[-1].verdict == "pass":
            return Certificate(verdict="pass", rate_qps=rate, attempts=tuple(attempts))
        rate *= RETREAT
    return Certificate(verdict="fail", rate_qps=None, attempts=tuple(attempts))


def judge(seen: SegmentObservation, rate_qps: float, sla: Sla) -> Attempt:
    """Pass if the one-sided 95 % upper bound of the late fraction, by Student's t over 30 blocks of equal time, is
    below what the SLA allows.

    Late queries clump, so a block counts, not a query. A block without a query is on time; a segment that was cut short
    fails, and so does one with fewer queries than could show the late fraction if none of them was late.
    """
    planned = np.asarray(seen.planned_ns[seen.counted], dtype=np.float64)
    late = seen.latency_ns[seen.counted] > sla.limit_ms * 1e6
    first = float(planned.min()) if planned.size else 0.0
    span = max(seen.duration_s * 1e9 - first, 1.0)
    block = np.clip((planned - first) / span * BLOCKS, 0, BLOCKS - 1).astype(np.int64)
    queries = np.bincount(block, minlength=BLOCKS)
    fractions = np.bincount(block, late, BLOCKS) / np.maximum(queries, 1)
    half = float(stats.t.ppf(CONFIDENCE, BLOCKS - 1) * fractions.std(ddof=1) / math.sqrt(BLOCKS))
    bound = float(fractions.mean()) + half
    passed = (
        bound < sla.late_fraction
        and not seen.aborted
        and planned.size >= queries_needed(1.0 - sla.late_fraction, CONFIDENCE)
    )
    return Attempt(
        rate_qps=rate_qps,
        late_fraction=float(late.mean()) if planned.size else 1.0,
        bound=bound,
        queries=int(planned.size),
        verdict="pass" if passed else "fail",
    )
