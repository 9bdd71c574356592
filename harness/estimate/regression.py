"""Quasi-binomial regression of late counts on the log of the offered rate, and the rate at which it crosses a level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

Array = npt.NDArray[Any]
_ITERATIONS = 60
_TINY = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class SlopePrior:
    """Normal prior of the slope d logit(late) / d log(rate)."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCurve:
    """logit(late fraction) = intercept + slope * (log rate - centre), with the covariance of (intercept, slope).

    ``phi`` is the dispersion, the factor by which clumping inflates the binomial variance (1 = independent queries).
    ``degrees`` of freedom are left for it: the segments less the intercept and the part of the slope that the data,
    not the prior, decided.
    """

    centre: float
    intercept: float
    slope: float
    covariance: Array
    phi: float
    degrees: float


def fit_late_curve(rates_qps: Array, late: Array, queries: Array, prior: SlopePrior) -> LateCurve:
    """Fit the curve by penalised iteratively reweighted least squares; dispersion from Pearson's chi-square.

    rates_qps, late, queries: (segments,). The prior counts as one observation of the slope, so a narrow range of
    rates leaves the slope where the twin puts it. Dispersion is never taken below 1 (McCullagh & Nelder 1989,
    section 4.5). Raises ValueError with fewer than 3 segments or no late query at all.
    """
    x_raw, y, n = (np.asarray(v, dtype=np.float64) for v in (np.log(rates_qps), late, queries))
    if y.size < 3 or y.sum() == 0:
        raise ValueError(f"a late curve needs 3 segments and a late query, got {y.size} and {int(y.sum())}")
    centre = float(np.average(x_raw, weights=n))
    design = np.column_stack([np.ones(y.size), x_raw - centre])
    beta = np.array([_logit((y.sum() + 0.5) / (n.sum() + 1.0)), prior.mean])
    phi, degrees = 1.0, y.size - 2.0
    for _ in range(_ITERATIONS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -30, 30)))
        weight = np.maximum(n * p * (1.0 - p), _TINY)
        residual = (y - n * p) / weight
        information = (design.T * weight) @ design / phi
        information[1, 1] += prior.sd**-2
        score = design.T @ (weight * residual) / phi
        score[1] += (prior.mean - beta[1]) * prior.sd**-2
        step = np.linalg.solve(information, score)
        beta = beta + np.clip(step, -2.0, 2.0)
        degrees = y.size - 1 - (1.0 - float(np.linalg.inv(information)[1, 1]) / prior.sd**2)
        phi = max(1.0, float(np.sum(weight * residual**2)) / degrees)
        if float(np.abs(step).max()) < 1e-9:
            break
    return LateCurve(
        centre=centre, intercept=float(beta[0]), slope=float(beta[1]), covariance=np.linalg.inv(information), phi=phi,
        degrees=degrees,
    )  # fmt: skip


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def crossing(curve: LateCurve, late_fraction: float, confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Rate at which the curve reaches ``late_fraction``, with Fieller's interval (Fieller 1954, JRSS B 16).

    Returns (rate, (low, high)) in the units of the rates; an end is 0 or inf where the slope's sign is not sure.
    """
    shift = _logit(late_fraction) - curve.intercept
    t2 = float(sps.t.ppf(0.5 + confidence / 2, curve.degrees)) ** 2
    v = curve.covariance
    # Points x with (shift - slope x)^2 <= t^2 Var(intercept + slope x): a quadratic in x.
    a = curve.slope**2 - t2 * v[1, 1]
    b = -(shift * curve.slope + t2 * v[0, 1])
    c = shift**2 - t2 * v[0, 0]
    root = math.exp(curve.centre + shift / curve.slope)
    if a <= 0.0:
        return root, (0.0, math.inf)
    spread = math.sqrt(max(b * b - a * c, 0.0))
    return root, (math.exp(curve.centre + (-b - spread) / a), math.exp(curve.centre + (-b + spread) / a))
