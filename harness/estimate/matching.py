"""Scaling the twin's service until twin and SUT are late equally often on the same traces. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import Replay, SegmentObservation
from harness.trial import Sla

Array = npt.NDArray[Any]

_FARTHEST = 2.0
_AROUND = np.array([-0.15, -0.07, -0.03, -0.01, 0.0, 0.01, 0.03, 0.07, 0.15])
_LEAST_WEIGHT = 0.05
_SETTLED = 1e-3
_STEP = 0.06


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinFit:
    """Log of the service scale that matches the SUT's lateness, in all and with each unit left out, per unit kind.

    log_scale is -inf where the SUT was never near its limit, inf where it was hopeless. quads: the numbers of the
    quads, in order. information_*: how much each unit's lateness says about the scale, its weighted derivative by the
    scale. correlation: of SUT and twin, lateness of blocks of time.
    """

    log_scale: float
    without_segment: Array
    without_quad: Array
    information_segment: Array
    information_quad: Array
    quads: tuple[int, ...]
    correlation: float


def match_scale(segments: Sequence[SegmentObservation], twin: QueueTwin, limit_ns: float) -> float:
    """Log service scale at which twin and SUT are equally late on these segments, quickly: it steers the search."""
    replay = Replay(segments, twin, limit_ns, copies=1)
    return _root(replay, np.ones(len(segments)))


def fit_twin(segments: Sequence[SegmentObservation], twin: QueueTwin, sla: Sla) -> TwinFit:
    """Match the twin to the SUT on all segments together, and with each segment and each quad left out."""
    replay = Replay(segments, twin, sla.limit_ms * 1e6)
    root = _root(replay, np.ones(len(segments)))
    weights = _balanced_weights(replay, twin, sla, root) if math.isfinite(root) else np.ones(len(segments))
    root = _root(replay, weights, start=root) if math.isfinite(root) else root
    if not math.isfinite(root):
        none = np.empty(0)
        return TwinFit(
            log_scale=root, without_segment=none, without_quad=none, information_segment=none, information_quad=none,
            quads=(), correlation=0.0,
        )  # fmt: skip
    information = weights * replay.information(root)
    return TwinFit(
        log_scale=root,
        without_segment=_roots_without(replay, weights, root, np.arange(len(segments))),
        without_quad=_roots_without(replay, weights, root, replay.quads),
        information_segment=information,
        information_quad=np.bincount(replay.quads, information),
        quads=replay.quad_numbers,
        correlation=replay.correlation(root),
    )


def _balanced_weights(replay: Replay, twin: QueueTwin, sla: Sla, root: float) -> Array:
    """Weights of the segments that put the centre of information at the crossing; (segments,).

    Where the SUT is not a scaled twin (a delay that is no service, noise of another shape), the matching scale drifts
    with the rate. Weights 1 + c u, u the log distance from the crossing, with sum(weight * information * u) = 0, are
    those of a straight line fitted to the drift and read off at the crossing: what is linear in it cancels. As the
    crossing follows from the scale, the one that reproduces itself is sought, inside the measured rates.
    """
    log_rates, information = np.log(replay.rates), np.maximum(replay.information(root), 0.0)
    lowest, highest = float(log_rates.min()), float(log_rates.max())

    def weights_at(log_crossing: float) -> Array:
        distance = log_rates - log_crossing
        spread = float(np.sum(information * distance**2))
        tilt = -float(np.sum(information * distance)) / spread if spread > 0.0 else 0.0
        return np.asarray(np.maximum(1.0 + tilt * distance, _LEAST_WEIGHT))

    def gap(log_crossing: float) -> float:
        found = _root(replay, weights_at(log_crossing), start=root)
        lbt = twin.lbt_qps(sla, math.exp(min(max(found, -_FARTHEST), _FARTHEST)))
        return math.log(max(lbt, 1e-9)) - log_crossing

    if highest - lowest < _SETTLED:
        return np.ones(log_rates.size)
    if gap(lowest) <= 0.0:
        return weights_at(lowest)
    if gap(highest) >= 0.0:
        return weights_at(highest)
    return weights_at(float(optimize.brentq(gap, lowest, highest, xtol=_SETTLED)))


def _root(replay: Replay, weights: Array, start: float = 0.0) -> float:
    """The log scale at which twin and SUT have the same weighted lateness; -inf if the SUT has none, inf if it has
    nothing else or the scale is beyond a factor of e^2."""
    target = float(weights @ replay.real)

    def excess(log_scale: float) -> float:
        return float(weights @ replay.twin(log_scale)) - target

    if target <= 0.0:
        return -math.inf
    if target >= float(weights @ replay.counted):
        return math.inf
    sign = 1.0 if excess(start) < 0.0 else -1.0
    near = far = start
    step = _STEP if start == 0.0 else _STEP / 4.0
    while excess(far) * sign < 0.0:
        if abs(far) >= _FARTHEST:
            return sign * math.inf
        near, far, step = far, far + sign * step, 2.0 * step
    return float(optimize.brentq(excess, near, far, xtol=1e-4)) if near != far else near


def _roots_without(replay: Replay, weights: Array, log_scale: float, unit: Array) -> Array:
    """The root with each unit's segments left out; (units,). unit: (segments,) from 0.

    Read off the log of the remaining lateness on a grid around the common root, linear between and beyond.
    """
    grid = log_scale + _AROUND
    by_unit = np.stack([np.bincount(unit, weights * replay.twin(float(x))) for x in grid])
    left = np.log(np.maximum(by_unit.sum(axis=1, keepdims=True) - by_unit, 1e-9))
    real = np.bincount(unit, weights * replay.real)
    target = np.log(np.maximum(real.sum() - real, 1e-3))
    roots = [_inverse(grid, left[:, u], float(target[u])) for u in range(real.size)]
    clipped: Array = np.clip(np.array(roots), log_scale - 1.0, log_scale + 1.0)
    return clipped


def _inverse(x: Array, rising: Array, target: float) -> float:
    """x at which a piecewise linear rising curve reaches the target, extended with the slope of its end pieces."""
    piece = int(np.clip(np.searchsorted(rising, target) - 1, 0, x.size - 2))
    slope = max(float(rising[piece + 1] - rising[piece]), 1e-9) / float(x[piece + 1] - x[piece])
    return float(x[piece]) + (target - float(rising[piece])) / slope
