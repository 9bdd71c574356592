"""The log LBT of one side, and what it would be without each segment or quad. Pure functions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.longrun import QueueTwin
from harness.estimate.matched_twin import MatchedTwin, mean_log_lbt
from harness.estimate.matching import TwinFit

Array = npt.NDArray[Any]
_TRACES = 32


def table_shifts(seen: MatchedTwin) -> Array:
    """By how much the log LBT would move if the table were refitted without each segment; (segments,).

    To first order where it is solved by number: the change of the late fraction at the LBT over its slope. Among spells
    the tail is too steep for that. Not for several workers.
    """
    opened, limit_ns = dataclasses.replace(seen.opened, twin=_quick(seen.opened.twin)), seen.sla.limit_ms * 1e6
    twin, count = opened.twin, opened.log_speeds.size
    if not opened.known or not twin.plain or twin.workers > 1 or seen.fit.prior_share == 0.0:
        return np.zeros(count)
    scale, rate = math.exp(seen.log_scale), math.exp(seen.log_lbt)
    if not twin.exact:
        lbt = twin.lbt_qps(seen.sla, scale)
        each = [opened.without(i).lbt_qps(seen.sla, scale) for i in range(count)]
        return np.log(np.maximum(each, 1e-3) / lbt) if lbt > 0.0 else np.zeros(count)
    here = max(twin.late_fraction(rate, limit_ns, scale), 1e-9)
    rest = [max(opened.without(i).late_fraction(rate, limit_ns, scale), 1e-9) for i in range(count)]
    shifts: Array = -np.log(np.array(rest) / here) / twin.log_slope(rate, seen.sla, scale)
    return shifts


def _quick(twin: QueueTwin) -> QueueTwin:
    """On few traces: the same ones with and without a segment, so that chance cancels."""
    return twin.on_traces(min(twin.traces, _TRACES))


def shared_information(information: Array, fit: TwinFit) -> Array:
    """What each unit knows: its share of the late queries' information as far as these decided, else an equal one."""
    known = np.maximum(information, 0.0)
    by_lateness = 1.0 - fit.prior_share
    share = known / known.sum() if known.sum() > 0.0 else np.full(known.size, 1.0 / known.size)
    mixed: Array = by_lateness * share + (1.0 - by_lateness) / known.size
    return mixed


def without_quads(seen: MatchedTwin, by_table: Array) -> tuple[float, ...]:
    """The log LBT without each quad."""
    fit, speeds = seen.fit, seen.opened.log_speeds
    quads = np.array([s.quad for s in seen.segments])
    by_quad = np.bincount(np.searchsorted(fit.quads, quads), by_table)
    rest = [
        mean_log_lbt(seen.surface, speeds[quads != q] + x) for q, x in zip(fit.quads, fit.without_quad, strict=True)
    ]
    return tuple(float(x) for x in rest + by_quad)
