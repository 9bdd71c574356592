"""The twin of one side, matched to what its segments saw, and where that puts the crossing. Pure functions.

What an LBT is made of, without its interval: the search asks where the next rates lie and needs no more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.late_surface import LateSurface
from harness.estimate.longrun import QueueTwin
from harness.estimate.matching import TwinFit, fit_scale, free_scale
from harness.estimate.open_loop import OpenLoop, open_loop_twin
from harness.estimate.replay import Replay, SegmentObservation
from harness.estimate.stats import late_clumps
from harness.trial import Sla

Array = npt.NDArray[Any]

FEWEST_SEGMENTS = 2
HOPELESS = 2.0
"""A twin for which no rate meets the SLA is believed when this many times the allowed share was late in fact."""
_AROUND_SCALE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of the counted part of all segments: late clumps, late queries, queries."""

    clumps: int
    late: int
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingPoint:
    """Where late queries are as frequent as the SLA allows. log_lbt: at the mean speed of the host; recent_log_lbt: at
    the speeds that it had in the last quad; slope: d log(late) / d log(rate) there."""

    log_lbt: float
    recent_log_lbt: float
    slope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """What is known where no scale makes the twin as late as the system was. log_scale: -inf where that never came near
    its limit, inf where it was hopeless."""

    counts: Counts
    log_scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedTwin:
    """Whole segments, how many were late, the twin as the open loop shows it, its late surface and the fit of its
    scale."""

    segments: Sequence[SegmentObservation]
    sla: Sla
    counts: Counts
    opened: OpenLoop
    surface: LateSurface
    fit: TwinFit

    @property
    def log_scale(self) -> float:
        """Of the service."""
        return self.fit.log_scale

    @cached_property
    def log_lbt(self) -> float:
        """At the mean speed of the host; not finite where no rate meets the SLA."""
        return mean_log_lbt(self.surface, self.opened.log_speeds + self.log_scale)

    @cached_property
    def crossing(self) -> CrossingPoint | None:
        """None where no rate meets the SLA."""
        if not math.isfinite(self.log_lbt):
            return None
        last = [segment.quad == self.fit.quads[-1] for segment in self.segments]
        return CrossingPoint(
            log_lbt=self.log_lbt,
            recent_log_lbt=mean_log_lbt(self.surface, self.opened.log_speeds[last] + self.log_scale),
            slope=self.opened.twin.log_slope(math.exp(self.log_lbt), self.sla, math.exp(self.log_scale)),
        )


def match_twin(segments: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla) -> MatchedTwin | Unmatched:
    """Match the twin to one side's refined segments (at least two that were not aborted; raises ValueError otherwise).

    twin: with the closed loop's service table.
    """
    used = [s for s in segments if not s.aborted]
    if len(used) < FEWEST_SEGMENTS:
        raise ValueError(f"an LBT needs at least {FEWEST_SEGMENTS} whole segments, got {len(used)} of {len(segments)}")
    limit_ns = sla.limit_ms * 1e6
    counts, opened = _count(used, limit_ns), open_loop_twin(used, twin, limit_ns)
    replay = Replay(used, opened.twin, limit_ns, opened.log_speeds, spells=opened.spells)
    scale = free_scale(replay, opened.log_sd)
    if math.isfinite(scale) and counts.late <= HOPELESS * sla.late_fraction * counts.queries:
        believed = opened.twin.believable(sla, math.exp(scale))
        if believed is not opened.twin:
            opened = dataclasses.replace(opened, twin=believed)
            replay = Replay(used, believed, limit_ns, opened.log_speeds, spells=opened.spells)
            scale = free_scale(replay, opened.log_sd)
    if not math.isfinite(scale):
        return Unmatched(counts=counts, log_scale=scale)
    around = opened.log_speeds + scale
    surface = LateSurface(opened.twin, sla, float(around.min()) - _AROUND_SCALE, float(around.max()) + _AROUND_SCALE)
    log_rates = np.log([s.offered_qps for s in used])

    def distance(log_scale: float) -> Array:
        return log_rates - surface.log_lbt_each(opened.log_speeds + log_scale)

    fit = fit_scale(replay, opened.log_sd, distance)
    if not math.isfinite(fit.log_scale):
        return Unmatched(counts=counts, log_scale=fit.log_scale)
    return MatchedTwin(segments=used, sla=sla, counts=counts, opened=opened, surface=surface, fit=fit)


def locate_crossing(segments: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla) -> CrossingPoint | None:
    """Where these segments put the crossing; None where they show none, or fewer than two are whole."""
    if sum(not segment.aborted for segment in segments) < FEWEST_SEGMENTS:
        return None
    found = match_twin(segments, twin, sla)
    return found.crossing if isinstance(found, MatchedTwin) else None


def mean_log_lbt(surface: LateSurface, log_scales: Array) -> float:
    """Mean of the log LBTs at these speeds. Speeds that both sides of a quad share cancel in the difference of two.

    Where some segment was too slow for any rate to meet the SLA, the LBT of the mixture of speeds stands in.
    """
    if not log_scales.size:  # the only unit was left out
        return math.nan
    each = surface.log_lbt_each(log_scales)
    return float(np.mean(each)) if np.isfinite(each).all() else surface.log_lbt(log_scales)


def _count(segments: Sequence[SegmentObservation], limit_ns: float) -> Counts:
    clumps = late = queries = 0
    for s in segments:
        keep = s.counted
        clumps += late_clumps(s.planned_ns[keep], s.latency_ns[keep], limit_ns)
        late += int(np.count_nonzero(s.latency_ns[keep] > limit_ns))
        queries += int(np.count_nonzero(keep))
    return Counts(clumps=clumps, late=late, queries=queries)
