"""Scaling the twin's service until twin and SUT are late equally often on the same traces. Pure functions.

What the open loop shows of the service (``open_loop``) fixes the scale near 1; the late queries correct it as far as
they know better. The prior says how far: to half a per cent, which the dispatcher's own moments leave open once the
work of the very queries is known, and more on a host that wavers. Late queries that surely contradict it overrule it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from harness.estimate.replay import Replay
from harness.estimate.stats import effective_degrees

Array = npt.NDArray[Any]

CONFLICT = 0.99
"""Confidence with which late queries have to contradict the prior before it is dropped."""
FEWEST_DEGREES = 2.0
"""Of freedom among the segments that know the scale: with fewer, Student's t asks for over four standard errors."""
_FARTHEST = 2.0
_AROUND = np.array([-0.15, -0.07, -0.03, -0.01, 0.0, 0.01, 0.03, 0.07, 0.15])
_LEAST_WEIGHT = 0.05
_SETTLED = 1e-3
_STEP = 0.06
_FIRM = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePrior:
    """Of the log scale: mean 0. pull: lateness per unit of log scale that it weighs; 0 for no prior. share: of the
    estimate that it makes up; log_sd: what it leaves open of that."""

    pull: float = 0.0
    log_sd: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class TwinFit:
    """Log of the service scale that matches the SUT's lateness, in all and with each unit left out, per unit kind.

    log_scale is -inf where the SUT was never near its limit and inf where it was hopeless, and no prior helps; nothing
    else is known then. weights: (segments,) of their lateness. All else is worked out when it is first asked for: who
    only wants to know where the crossing lies needs none of it.
    """

    log_scale: float
    replay: Replay
    weights: Array
    prior: ScalePrior

    @property
    def quads(self) -> tuple[int, ...]:
        """The numbers of the quads, in order."""
        return self.replay.quad_numbers

    @property
    def prior_share(self) -> float:
        """How far the prior, and not the late queries, fixed the scale; 0 to 1."""
        return self.prior.share

    @property
    def prior_log_sd(self) -> float:
        """The part of the scale's standard error that comes from the prior and not from the late queries."""
        return self.prior.log_sd

    @cached_property
    def information_segment(self) -> Array:
        """How much each segment's lateness says about the scale: its weighted derivative by the scale."""
        weighted: Array = self.weights * self.replay.information(self.log_scale)
        return weighted

    @cached_property
    def information_quad(self) -> Array:
        """The same of each quad."""
        return np.bincount(self.replay.quads, self.information_segment)

    @cached_property
    def without_segment(self) -> Array:
        """The log scale with each segment left out; (segments,)."""
        return self._without(np.arange(self.replay.rates.size))

    @cached_property
    def without_quad(self) -> Array:
        """The log scale with each quad left out; (quads,)."""
        return self._without(self.replay.quads)

    @cached_property
    def correlation(self) -> float:
        """Of SUT and twin, lateness of blocks of time."""
        return self.replay.correlation(self.log_scale)

    def _without(self, unit: Array) -> Array:
        return _roots_without(self.replay, self.weights, self.prior, self.log_scale, unit)


Crossing = Callable[[float], Array]
"""Log distance of every segment's rate from its own crossing, at a log scale; (segments,)."""


def fit_scale(replay: Replay, prior_sd: float, distance: Crossing) -> TwinFit:
    """Match the twin to the SUT on all segments together.

    prior_sd: how well the log scale is known without the late queries; 0: not at all. distance: see ``Crossing``.
    """
    weights = np.ones(replay.rates.size)
    prior = _prior(replay, weights, prior_sd)
    root = _root(replay, weights, prior)
    if math.isfinite(root):
        weights = _balanced_weights(replay, prior, root, distance)
        prior = _prior(replay, weights, prior_sd)
        root = _root(replay, weights, prior, start=root)
    return TwinFit(log_scale=root, replay=replay, weights=weights, prior=prior)


def free_scale(replay: Replay, prior_sd: float) -> float:
    """``fit_scale`` with equal weights and nothing else: where to look, and what steers the search."""
    weights = np.ones(replay.rates.size)
    return _root(replay, weights, _prior(replay, weights, prior_sd))


def _prior(replay: Replay, weights: Array, prior_sd: float) -> ScalePrior:
    """How much the prior weighs against these late queries; nothing where they contradict it.

    The score sum w (twin - SUT) has slope I and variance V, the larger of what the twin's noise makes and what was
    seen between segments; the log scale by late queries alone then has variance V / I^2, and the posterior of a normal
    prior solves score + scale V / (I sd^2) = 0. Where neither twin nor SUT come near the limit, or one or two segments
    alone say what the scale is, so that nothing tells how far chance moved it, the prior decides.
    """
    if prior_sd == 0.0:
        return ScalePrior()
    free = _root(replay, weights, ScalePrior())
    at = free if math.isfinite(free) else 0.0
    each = weights * np.maximum(replay.information(at), 0.0)
    information = float(each.sum())
    variance = max(_noise_variance(replay, weights, x) for x in (at, at + prior_sd))
    if math.isfinite(free):
        variance = max(variance, float(np.sum((weights * (replay.twin(at) - replay.real)) ** 2)))
    if information <= 1e-9 or variance <= 0.0:
        return ScalePrior(pull=1.0, log_sd=prior_sd, share=1.0)
    by_lateness = variance / information**2
    if math.isfinite(free) and abs(free) > _sure(replay, weights) * math.hypot(math.sqrt(by_lateness), prior_sd):
        return ScalePrior()
    if effective_degrees(each) < FEWEST_DEGREES:
        return ScalePrior(pull=_FIRM, log_sd=prior_sd, share=1.0)
    share = by_lateness / (prior_sd**2 + by_lateness)
    return ScalePrior(pull=variance / (information * prior_sd**2), log_sd=share * prior_sd, share=share)


def _noise_variance(replay: Replay, weights: Array, log_scale: float) -> float:
    return float(np.sum(weights**2 * replay.variance(log_scale)))


def _sure(replay: Replay, weights: Array) -> float:
    """Standard errors beyond which late queries overrule the prior, by the number of segments that hold them."""
    degrees = max(effective_degrees(weights * replay.real), 1.0)
    return float(stats.t.ppf(0.5 + CONFLICT / 2, degrees))


def _balanced_weights(replay: Replay, prior: ScalePrior, root: float, distance: Crossing) -> Array:
    """Weights of the segments that put the centre of information at the crossing; (segments,).

    Where the SUT is not a scaled twin (noise of another shape, stalls), the matching scale drifts with the distance
    from the crossing. Weights 1 + c u, u that log distance, with sum(weight * information * u) = 0, are those of a
    straight line fitted to the drift and read off at the crossing: what is linear in it cancels. As the crossing
    follows from the scale, the one that reproduces itself is sought, as far as rates were measured around it.
    """
    information = np.maximum(replay.information(root), 0.0)
    around = distance(root)

    def weights_at(shift: float) -> Array:
        u = around - shift
        spread = float(np.sum(information * u**2))
        tilt = -float(np.sum(information * u)) / spread if spread > 0.0 else 0.0
        return np.asarray(np.maximum(1.0 + tilt * u, _LEAST_WEIGHT))

    def gap(shift: float) -> float:
        found = _root(replay, weights_at(shift), prior, start=root)
        moved = distance(min(max(found, -_FARTHEST), _FARTHEST))
        return float(np.mean(around - moved)) - shift

    lowest, highest = float(around.min()), float(around.max())
    if not np.isfinite(around).all() or highest - lowest < _SETTLED or information.sum() <= 0.0:
        return np.ones(around.size)
    if gap(lowest) <= 0.0:
        return weights_at(lowest)
    if gap(highest) >= 0.0:
        return weights_at(highest)
    return weights_at(float(optimize.brentq(gap, lowest, highest, xtol=_SETTLED)))


def _root(replay: Replay, weights: Array, prior: ScalePrior, start: float = 0.0) -> float:
    """The log scale at which twin and SUT have the same weighted lateness, held by the prior; without one -inf if the
    SUT has none, inf if it has nothing else or the scale is beyond a factor of e^2."""
    target = float(weights @ replay.real)

    def excess(log_scale: float) -> float:
        return float(weights @ replay.twin(log_scale)) - target + prior.pull * log_scale

    if prior.pull == 0.0 and target <= 0.0:
        return -math.inf
    if prior.pull == 0.0 and target >= float(weights @ replay.counted):
        return math.inf
    sign = 1.0 if excess(start) < 0.0 else -1.0
    near = far = start
    step = _STEP if start == 0.0 else _STEP / 4.0
    while excess(far) * sign < 0.0:
        if abs(far) >= _FARTHEST:
            return sign * math.inf
        near, far, step = far, far + sign * step, 2.0 * step
    return float(optimize.brentq(excess, near, far, xtol=1e-4)) if near != far else near


def _roots_without(replay: Replay, weights: Array, prior: ScalePrior, log_scale: float, unit: Array) -> Array:
    """The root with each unit's segments left out; (units,). unit: (segments,) from 0.

    Read off a grid around the common root, linear between and beyond; without a prior off the log of the remaining
    lateness, which is closer to a line. The prior's pull shrinks with the lateness that it stood against.
    """
    grid = log_scale + _AROUND
    by_unit = np.stack([np.bincount(unit, weights * replay.twin(float(x))) for x in grid])
    rest = by_unit.sum(axis=1, keepdims=True) - by_unit
    real = np.bincount(unit, weights * replay.real)
    target = real.sum() - real
    if prior.pull > 0.0:
        rising = rest + prior.pull * (grid * (1.0 - 1.0 / real.size))[:, None]
    else:
        rising, target = np.log(np.maximum(rest, 1e-9)), np.log(np.maximum(target, 1e-3))
    roots = [_inverse(grid, rising[:, u], float(target[u])) for u in range(real.size)]
    clipped: Array = np.clip(np.array(roots), log_scale - 1.0, log_scale + 1.0)
    return clipped


def _inverse(x: Array, rising: Array, target: float) -> float:
    """x at which a piecewise linear rising curve reaches the target, extended with the slope of its end pieces."""
    piece = int(np.clip(np.searchsorted(rising, target) - 1, 0, x.size - 2))
    slope = max(float(rising[piece + 1] - rising[piece]), 1e-9) / float(x[piece + 1] - x[piece])
    return float(x[piece]) + (target - float(rising[piece])) / slope
