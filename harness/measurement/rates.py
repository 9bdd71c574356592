"""Which rates one side is offered: coarse probes until the crossing is near, then two rates around it in every quad."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.estimate.search import futility_limits, next_rate, quad_rates, time_shares
from harness.measurement.bench import Quad, Stretch
from harness.measurement.side import Load, Side

LARGEST_STEP = 1.3
BELIEVED_QUADS = 2
"""From so many on, the estimate so far says where the next rates lie."""


def search_rate(bench: Load, side: Side) -> None:
    """Coarse probes until the crossing is near; sets ``centre_qps``."""
    twin, sla = side.twin(bench), bench.trial.sla
    for index in range(bench.budget.search_probes + 1):
        decision = next_rate(side.probes, twin, sla)
        if decision.action == "stop":
            side.centre_qps = 0.0
            return
        side.centre_qps = decision.rate_qps
        if decision.action == "refine" or index == bench.budget.search_probes:
            break
        seconds = bench.budget.settle_s + bench.budget.search_s
        limits = futility_limits(twin, sla, int(decision.rate_qps * seconds))
        stretch = Stretch(
            purpose="search",
            index=index,
            rate_qps=decision.rate_qps,
            seconds=seconds,
            max_late=limits.late_queries,
            max_age_ns=limits.oldest_ns,
        )
        side.probes.append(bench.open_loop(side.name, stretch))


def prepare_quad(bench: Load, sides: Sequence[Side], quad: Quad) -> None:
    """Choose the rates of the next quad, and once, at half time, how long each side's segments are (R9)."""
    loaded = [side for side in sides if side.centre_qps > 0.0]
    if len(loaded) == 2 and 0 < quad.number == bench.budget.quads // 2:
        shares = time_shares(_log_spread(bench, loaded[0]), _log_spread(bench, loaded[1]))
        for side, share in zip(loaded, shares, strict=True):
            side.time_factor = 2.0 * share
    for side in loaded:
        _aim(bench, side, quad.place)


def _log_spread(bench: Load, side: Side) -> float:
    """Width of the log interval of the LBT so far; inf where it has none."""
    estimate = side.estimate_so_far(bench)
    return math.log(estimate.ci[1] / estimate.ci[0]) if estimate and estimate.ci and estimate.ci[0] > 0.0 else math.inf


def _aim(bench: Load, side: Side, place: int) -> None:
    """Choose the two rates of the next quad; the middle moves at most one step of 30 %."""
    done, crossing = [*side.probes, *side.refined], None
    if len({segment.quad for segment in side.refined}) >= BELIEVED_QUADS:
        crossing = side.crossing_so_far(bench)
    rates = quad_rates(done, side.twin(bench), bench.trial.sla, side.centre_qps, place, crossing)
    middle = math.sqrt(rates[0] * rates[1])
    moved = min(max(middle, side.centre_qps / LARGEST_STEP), side.centre_qps * LARGEST_STEP)
    side.rates_qps = (rates[0] * moved / middle, rates[1] * moved / middle)
    side.centre_qps = moved


def refine(bench: Load, side: Side, quad: Quad, half: int) -> None:
    """One refined segment of a quad. ``half`` 0 or 1 says which of the two traces and rates of the quad it runs."""
    seconds = bench.budget.settle_s + side.time_factor * bench.budget.segment_s
    # Only a runaway is cut short: dropping merely busy segments would overstate the LBT.
    runaway_ns = max(50 * bench.limit_ns, 5_000_000_000)
    stretch = Stretch(
        purpose="quad",
        index=2 * quad.place + half,
        rate_qps=side.rates_qps[half],
        seconds=seconds,
        quad=quad.number,
        max_age_ns=runaway_ns,
    )
    side.refined.append(bench.open_loop(side.name, stretch))
