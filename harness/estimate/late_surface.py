"""The twin's late fraction over speed and rate, tabulated once: LBTs of many speeds, and of a host that wavers.

A host whose speed wavers slowly beside the queue's memory is a mixture: its late fraction at a rate is the mean of
those at its speeds. Pure functions.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import interpolate, optimize

from harness.estimate.longrun import QueueTwin
from harness.estimate.simulated_tails import on_grid
from harness.trial import Sla

Array = npt.NDArray[Any]

_LOADS = np.concatenate((np.linspace(0.02, 0.9, 30), 1.0 - np.geomspace(0.09, 1e-3, 14)))
_SCALE_STEP = 0.05
_MARGIN = 0.05
_TINY = 1e-8


class LateSurface:
    """log P(late) of a twin for log service scales in [lowest, highest] (a little beyond too) and any rate.

    Between the tabulated scales it is linear at equal load; over the load a monotone cubic.
    """

    def __init__(self, twin: QueueTwin, sla: Sla, lowest: float, highest: float) -> None:
        self._allowed, self._log_capacity = sla.late_fraction, math.log(twin.capacity_qps)
        count = 2 + math.ceil((highest - lowest + 2 * _MARGIN) / _SCALE_STEP)
        self._scales = np.linspace(lowest - _MARGIN, highest + _MARGIN, count)
        batched = not twin.plain and twin.dispatch.batch > 1
        loads = np.concatenate((_LOADS, _LOADS[1:] * twin.dispatch.batch)) if batched else _LOADS
        self._log_loads = np.log(np.unique(loads) if twin.exact else on_grid(loads))
        rows = twin.late_table(np.exp(self._log_loads), sla.limit_ms * 1e6, np.exp(self._scales))
        tails = np.log(np.clip(np.maximum.accumulate(rows, axis=1), _TINY, 1.0))
        self._curves = [interpolate.PchipInterpolator(self._log_loads, row) for row in tails]

    def log_late(self, log_rate: float, log_scales: Array) -> Array:
        """log P(late) at one rate and each scale; 0 above the highest load. log_scales: (n,)."""
        scales = np.clip(np.asarray(log_scales, dtype=np.float64), self._scales[0], self._scales[-1])
        log_load = log_rate + np.asarray(log_scales, dtype=np.float64) - self._log_capacity
        inside = np.clip(log_load, self._log_loads[0], self._log_loads[-1])
        step = self._scales[1] - self._scales[0]
        piece = np.clip(((scales - self._scales[0]) / step).astype(np.int64), 0, self._scales.size - 2)
        share, found = (scales - self._scales[piece]) / step, np.empty(scales.size)
        for i in np.unique(piece):
            at = piece == i
            near, far = self._curves[i](inside[at]), self._curves[i + 1](inside[at])
            found[at] = near + share[at] * (far - near)
        return np.where(log_load > self._log_loads[-1], 0.0, found)

    def _log_late_at(self, log_scale: float) -> Callable[[float], float]:
        """``log_late`` of one scale as a function of the log rate, in plain floats: it is asked for one at a time."""
        scale = min(max(log_scale, float(self._scales[0])), float(self._scales[-1]))
        step = float(self._scales[1] - self._scales[0])
        piece = min(int((scale - float(self._scales[0])) / step), self._scales.size - 2)
        share = (scale - float(self._scales[piece])) / step
        near_curve, far_curve = self._plain_curves[piece], self._plain_curves[piece + 1]
        lowest, highest = float(self._log_loads[0]), float(self._log_loads[-1])

        def log_late(log_rate: float) -> float:
            log_load = log_rate + log_scale - self._log_capacity
            if log_load > highest:
                return 0.0
            inside = max(log_load, lowest)
            near, far = near_curve(inside), far_curve(inside)
            return near + share * (far - near)

        return log_late

    @cached_property
    def _plain_curves(self) -> list[_PlainCurve]:
        return [_PlainCurve(curve) for curve in self._curves]

    def log_lbt(self, log_scales: Array) -> float:
        """log of the rate at which the mean late fraction over these (equally long) speeds is the allowed one.

        -inf if it is above that even at a fiftieth of the capacity of the slowest.
        """
        scales = np.atleast_1d(np.asarray(log_scales, dtype=np.float64))
        low = self._log_loads[0] - float(scales.max()) + self._log_capacity
        high = self._log_loads[-1] - float(scales.min()) + self._log_capacity
        one = self._log_late_at(float(scales[0])) if scales.size == 1 else None

        @cache
        def excess(log_rate: float) -> float:
            late = np.exp(one(log_rate)) if one else np.mean(np.exp(self.log_late(log_rate, scales)))
            return float(late) - self._allowed

        if excess(float(low)) >= 0.0:
            return -math.inf
        if excess(float(high)) <= 0.0:
            return float(high)
        return float(optimize.brentq(excess, low, high, xtol=1e-5))

    @cached_property
    def _each(self) -> interpolate.PchipInterpolator | None:
        """Log LBT over the log scale; None where some tabulated speed has none."""
        finer = np.linspace(self._scales[0], self._scales[-1], 2 * self._scales.size - 1)
        values = np.array([self.log_lbt(np.array([scale])) for scale in finer])
        return interpolate.PchipInterpolator(finer, values) if np.isfinite(values).all() else None

    def log_lbt_each(self, log_scales: Array) -> Array:
        """``log_lbt`` of every single scale; (n,). Where some tabulated speed has none, each is sought by itself."""
        scales = np.asarray(log_scales, dtype=np.float64)
        if self._each is not None and self._scales[0] <= scales.min() and scales.max() <= self._scales[-1]:
            smooth: Array = self._each(scales)
            return smooth
        return np.array([self.log_lbt(np.array([scale])) for scale in scales])


class _PlainCurve:
    """A piecewise cubic at one point within its range, by plain floats in the steps of scipy's own evaluation."""

    def __init__(self, curve: interpolate.PchipInterpolator) -> None:
        self._knots, self._pieces = curve.x.tolist(), curve.c.T.tolist()

    def __call__(self, x: float) -> float:
        piece = min(bisect_right(self._knots, x), len(self._pieces)) - 1
        cubic, square, slope, value = self._pieces[piece]
        step = x - self._knots[piece]
        return float(value + slope * step + square * (step * step) + cubic * (step * step * step))
