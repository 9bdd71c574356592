"""Which rate to offer next: from the twin's guess, over coarse probes, to refined segments. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.estimate.longrun import QueueTwin
from harness.estimate.matched_twin import CrossingPoint
from harness.estimate.matching import free_scale
from harness.estimate.open_loop import open_loop_twin
from harness.estimate.replay import Replay, SegmentObservation
from harness.trial import Sla

PROBE_STEP = 1.3
MAX_PROBES = 6
CLOSE = 1.05
RATE_FACTORS = (1.0 / 0.6, 1.5)
"""How much rarer and more frequent than allowed late queries are at the two refined rates."""
SHARES = (0.3, 0.7)
"""Least and greatest share of the time that one of two sides gets."""
UNLOADED = 0.2
"""Share of the capacity at which queries hardly wait."""
STEERING_TRACES = 16
"""Simulated where there is no formula: the next segment waits for the answer, and 2 % are near enough."""
_COPIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FutilityLimits:
    """A segment stops as soon as one of these is passed; it then counts as failed. Exact: no estimate is involved."""

    late_queries: int
    oldest_ns: int
    outstanding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateDecision:
    """What to offer next. action "probe" or "refine" with a rate, or "stop": no rate meets the SLA."""

    action: Literal["probe", "refine", "stop"]
    rate_qps: float
    reason: str


def futility_limits(twin: QueueTwin, sla: Sla, planned_queries: int) -> FutilityLimits:
    """Stop at more than 5 times the allowed late queries of the plan, an answer older than 4 limits, or a backlog that
    takes 4 limits to serve at full capacity (at least 64 queries)."""
    limit_ns = sla.limit_ms * 1e6
    return FutilityLimits(
        late_queries=max(3, round(5.0 * sla.late_fraction * planned_queries)),
        oldest_ns=int(4.0 * limit_ns),
        outstanding=max(64, round(4.0 * twin.capacity_qps * limit_ns / 1e9)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steering:
    """What all segments so far say of one side: the twin with their service, and the log scale to expect next.

    log_scale is -inf where nothing came near the limit and the work is unknown, inf where everything was late.
    """

    twin: QueueTwin
    log_scale: float


def steer(done: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla) -> Steering:
    """Refit the twin to ``done`` (oldest first, aborted ones too: they do not count, but they steer).

    The next speed is expected halfway between that of the last quad (or probe) and the mean of all.
    """
    opened = open_loop_twin(done, twin, sla.limit_ms * 1e6)
    whole = [i for i, s in enumerate(done) if not s.aborted]
    if not whole and not opened.known:
        return Steering(twin=twin, log_scale=math.inf)
    scale = 0.0
    if whole:
        segments = [done[i] for i in whole]
        replay = Replay(
            segments,
            opened.twin,
            sla.limit_ms * 1e6,
            opened.log_speeds[whole],
            copies=_COPIES,
            spells=[opened.spells[i] for i in whole],
        )
        scale = free_scale(replay, opened.log_sd)
    last = [i for i, s in enumerate(done) if s.quad == done[-1].quad] if done[-1].quad >= 0 else [len(done) - 1]
    twin = opened.twin.on_traces(STEERING_TRACES)
    return Steering(twin=twin, log_scale=scale + 0.5 * float(np.mean(opened.log_speeds[last])))


def next_rate(probes: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla) -> RateDecision:
    """The next rate of one side's coarse search, from the probes so far (oldest first).

    The first is the twin's own LBT; where it has none, a fifth of its capacity, since the host may have been held up
    while the closed loop ran, and what the probes show decides. They refit the twin's service, which gives the next
    rate, at most one step of 1.3 from the last; after an aborted probe it lies below that one. Refining starts when a
    whole probe was within 5 % of the guess, or after 6 probes. Whether a probe passed does not count: in a few seconds
    one long queue decides that.
    """
    if not probes:
        first = twin.believable(sla).lbt_qps(sla)
        if first <= 0.0:
            rate = UNLOADED * twin.capacity_qps
            return RateDecision(action="probe", rate_qps=rate, reason="late when idle, by the closed-loop service")
        return RateDecision(action="probe", rate_qps=first, reason="LBT of the twin with the closed-loop service")
    found = steer(probes, twin, sla)
    if _hopeless(found, probes, sla):
        return RateDecision(action="stop", rate_qps=0.0, reason="an idle server is late more often than allowed")
    guess = _guess(probes, found, sla)
    near = any(max(guess / p.offered_qps, p.offered_qps / guess) <= CLOSE for p in probes if not p.aborted)
    if near:
        return RateDecision(action="refine", rate_qps=guess, reason="a probe agrees with the refitted twin")
    if len(probes) >= MAX_PROBES:
        return RateDecision(action="refine", rate_qps=guess, reason=f"{MAX_PROBES} probes did not agree with the twin")
    return RateDecision(action="probe", rate_qps=guess, reason="twin refitted to the probes so far")


def _hopeless(found: Steering, probes: Sequence[SegmentObservation], sla: Sla) -> bool:
    """Whether no rate meets the SLA: by the twin refitted to the probes, or where these say nothing of the work and
    not one query of theirs was in time."""
    if math.isfinite(found.log_scale):
        return _lbt(found, sla) <= 0.0
    return found.log_scale > 0.0 and all((p.latency_ns > sla.limit_ms * 1e6).all() for p in probes)


def _guess(probes: Sequence[SegmentObservation], found: Steering, sla: Sla) -> float:
    """LBT suggested by the probes, within one step of the last rate and below it if that was aborted."""
    last = probes[-1]
    lowest, highest = last.offered_qps / PROBE_STEP, last.offered_qps * PROBE_STEP
    if last.aborted:
        highest = last.offered_qps / math.sqrt(PROBE_STEP)
    if found.log_scale == -math.inf:
        return highest
    if found.log_scale == math.inf:
        return lowest
    return min(max(_lbt(found, sla), lowest), highest)


def _lbt(found: Steering, sla: Sla) -> float:
    scale = math.exp(found.log_scale)
    return found.twin.believable(sla, scale).lbt_qps(sla, scale)


def quad_rates(
    done: Sequence[SegmentObservation],
    twin: QueueTwin,
    sla: Sla,
    centre_qps: float,
    place: int,
    crossing: CrossingPoint | None = None,
) -> tuple[float, float]:
    """Rates of one side's two segments in the next quad: one on either side of the crossing.

    done: segments of this side so far, oldest first, probes included. place: number of the quad, or of the void one
    that it repeats. crossing: by its refined segments so far, if there are enough. The two rates stand where the late
    fraction is 0.6 and 1.5 times the allowed one, and 2 % to 20 % away from the crossing. Higher rates would make more
    late queries in the same time, but farther from the crossing, where a twin that is wrong in shape misleads. Two
    quads in a row, ABBA and BAAB, start with the lower rate, the next two with the upper one: each two are then the
    same but for the sides. (Were it every other quad, the baseline's upper rate would always follow the candidate's,
    and whatever a segment leaves behind for the next one would favour a side.)
    """
    centre, slope = _believed(crossing) or _refitted(done, twin, sla, centre_qps)
    below, above = (min(max(math.log(f) / slope, 0.02), 0.20) for f in RATE_FACTORS)
    low, high = centre * math.exp(-below), centre * math.exp(above)
    return (low, high) if place // 2 % 2 == 0 else (high, low)


def _believed(crossing: CrossingPoint | None) -> tuple[float, float] | None:
    """Crossing and log slope by the estimate that will count in the end: rates around any other one may leave its
    result outside of what was offered. The next speed is expected halfway between the last quad's and the mean."""
    if crossing is None:
        return None
    recent = crossing.recent_log_lbt if math.isfinite(crossing.recent_log_lbt) else crossing.log_lbt
    return math.exp(0.5 * (crossing.log_lbt + recent)), crossing.slope


def _refitted(done: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla, centre_qps: float) -> tuple[float, float]:
    """Crossing and log slope of the twin refitted to all segments; ``centre_qps`` as long as there is no crossing."""
    found = steer(done, twin, sla) if done else Steering(twin=twin, log_scale=math.inf)
    finite = math.isfinite(found.log_scale)
    centre = (_lbt(found, sla) if finite else 0.0) or centre_qps
    # A system that was never late has no scale yet: the twin's slope is taken where its own crossing is the centre.
    scale = math.exp(found.log_scale) if finite else found.twin.lbt_qps(sla) / centre
    return centre, found.twin.log_slope(centre, sla, scale or 1.0)


def time_shares(spread_baseline: float, spread_candidate: float) -> tuple[float, float]:
    """Shares of the time for baseline and candidate, in proportion to the spread (sd of log LBT from equal times) of
    each, which makes the ratio's interval shortest; both within ``SHARES``. inf: not known yet."""
    total = spread_baseline + spread_candidate
    if total == 0.0 or spread_baseline == spread_candidate:
        return 0.5, 0.5
    share = spread_baseline / total if math.isfinite(total) else float(math.isinf(spread_baseline))
    share = min(max(share, SHARES[0]), SHARES[1])
    return share, 1.0 - share
