"""Intervals and counts for late queries and ratios. Pure functions.

Late queries clump: one long queue makes many of them. So nothing here treats queries of one segment as independent,
except the functions that say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

Array = npt.NDArray[Any]
Interval = tuple[float, float]


def queries_needed(p: float, confidence: float = 0.99) -> int:
    """Fewest queries for which none beyond the limit shows P(late) < 1 - p with the given one-sided confidence.

    The smallest n with p**n <= 1 - confidence; 459 for p = 0.99 and 4,603 for p = 0.999.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"a percentile lies strictly between 0 and 1, not {p}")
    return math.ceil(math.log(1.0 - confidence) / math.log(p))


def percentile(values: Array, p: float) -> float | None:
    """The observed value at rank ceil(p (n - 1)), never interpolated; None with fewer than ``queries_needed(p)``.

    values: (n,), inf for a query without an answer. p: in (0, 1).
    """
    flat = np.asarray(values, dtype=np.float64)
    if flat.size < queries_needed(p):
        return None
    rank = math.ceil(round(p * (flat.size - 1), 9))
    return float(np.partition(flat, rank)[rank])


def t_interval(values: Sequence[float] | Array, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values. Needs two values; raises ValueError otherwise."""
    flat = np.asarray(values, dtype=np.float64)
    if flat.size < 2:
        raise ValueError(f"an interval needs at least 2 values, got {flat.size}")
    half = float(sps.t.ppf(0.5 + confidence / 2, flat.size - 1)) * float(flat.std(ddof=1)) / math.sqrt(flat.size)
    return float(flat.mean()) - half, float(flat.mean()) + half


def log_t_interval(log_values: Sequence[float] | Array, confidence: float = 0.95) -> tuple[float, Interval]:
    """Geometric mean and its interval from independent log ratios, by Student's t on the logs."""
    low, high = t_interval(log_values, confidence)
    return math.exp(float(np.mean(log_values))), (math.exp(low), math.exp(high))


def clopper_pearson(late: int, queries: int, confidence: float = 0.95) -> Interval:
    """Exact two-sided binomial interval (Clopper & Pearson 1934). Assumes independent queries: diagnostics only."""
    if not 0 <= late <= queries or queries == 0:
        raise ValueError(f"{late} late of {queries} queries is not a proportion")
    tail = (1.0 - confidence) / 2
    low = float(sps.beta.ppf(tail, late, queries - late + 1)) if late else 0.0
    high = float(sps.beta.ppf(1.0 - tail, late + 1, queries - late)) if late < queries else 1.0
    return low, high


def block_late_bound(late: Array, blocks: int = 30, confidence: float = 0.95) -> float:
    """One-sided upper bound of the late fraction by Student's t over consecutive blocks of equal count.

    late: (n,) bool in order of arrival. Blocks are long beside a busy period when n / blocks is; the bound then holds
    whatever the clumping. Raises ValueError with fewer queries than blocks.
    """
    flat = np.asarray(late, dtype=np.float64)
    if flat.size < blocks:
        raise ValueError(f"{flat.size} queries cannot be cut into {blocks} blocks")
    means = np.array([block.mean() for block in np.array_split(flat, blocks)])
    se = float(means.std(ddof=1)) / math.sqrt(blocks)
    return float(means.mean()) + float(sps.t.ppf(confidence, blocks - 1)) * se


def beyond_chance(value: float, error: float) -> float:
    """value - error^2 / value, and not below 0: what an estimate of something that is never negative shows beyond its
    standard error (the positive-part rule of James & Stein 1961). Cut off at 0 alone, half of all nothings would count.
    """
    return max(value - error**2 / value, 0.0) if value > 0.0 else 0.0


def busy_periods(planned_ns: Array, latency_ns: Array) -> Array:
    """Number of the busy period of each query: a query that arrives when nothing is outstanding starts a new one.

    planned_ns: (n,) ascending. latency_ns: (n,), inf for no answer (its period never ends). For a FIFO queue with
    Poisson arrivals these periods are independent, which a fixed gap does not promise.
    """
    planned = np.asarray(planned_ns, dtype=np.float64)
    last_done = np.maximum.accumulate(planned + np.asarray(latency_ns, dtype=np.float64))
    starts = np.ones(planned.size, dtype=np.int64)
    starts[1:] = planned[1:] >= last_done[:-1]
    return np.cumsum(starts) - 1


def late_clumps(planned_ns: Array, latency_ns: Array, limit_ns: float) -> int:
    """Number of busy periods that hold at least one late query: the independent pieces of evidence for lateness."""
    late = np.asarray(latency_ns, dtype=np.float64) > limit_ns
    return int(np.unique(busy_periods(planned_ns, latency_ns)[late]).size)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of Holm 1979 (step-down Bonferroni), in the order given; reject where <= the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def pseudo_values(full: float, without: Sequence[float] | Array) -> Array:
    """Jackknife pseudo-values n * full - (n - 1) * without[i] (Tukey 1958); their mean is the bias-reduced estimate.

    without[i]: the estimate with unit i left out. Student's t on the pseudo-values gives the interval.
    """
    left = np.asarray(without, dtype=np.float64)
    values: Array = left.size * full - (left.size - 1) * left
    return values


def effective_degrees(information: Array) -> float:
    """Degrees of freedom of a t interval over units that know unequally much: (sum w)^2 / sum w^2 - 1.

    Kish's effective number of units, less one. With equal weights it is n - 1; where one unit holds nearly all
    of the information it falls towards 0, and no interval can be given.
    """
    weights = np.maximum(np.asarray(information, dtype=np.float64), 0.0)
    total = float(weights.sum())
    return total**2 / float(np.sum(weights**2)) - 1.0 if total > 0.0 else 0.0


def jackknife_half_width(full: float, without: Sequence[float] | Array, degrees: float) -> float:
    """Half of the 95 % Student's t interval of a jackknifed estimate; inf below one degree of freedom."""
    values = pseudo_values(full, without)
    if values.size < 2 or not np.isfinite(values).all():
        return math.inf
    return t_factor(degrees) * float(values.std(ddof=1)) / math.sqrt(values.size)


def t_factor(degrees: float) -> float:
    """Standard errors in half a 95 % Student's t interval; inf below one degree of freedom."""
    return float(sps.t.ppf(0.975, degrees)) if degrees >= 1.0 else math.inf
