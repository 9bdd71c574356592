"""Service time by query size, as samples show it: means, and the noise about them. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.uniforms import uniforms

Array = npt.NDArray[Any]
SPREAD_POINTS = 2048
"""So many samples of a group keep their own value; lumped with its neighbours, a rare stall would lose its length."""
_KNOTS = 24
_GROUP_SAMPLES = 100
_LOOKED_UP = 4096
"""Whole sizes below this are looked up by number: many queries, few sizes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceTable:
    """Service time by query size, as measured in a closed loop.

    sizes, mean_ns: (knots,) ascending positive sizes and the mean service there, linear in between and beyond. spread:
    (points,) values of service over its mean, with mean 1, equally likely within a group of neighbouring sizes: a stall
    of a fixed length is a large factor for a small query and a small one for a large query. edges: (groups - 1,) the
    largest size of each group but the last; counts: (groups,) how many values of ``spread`` belong to each, in order.
    Without edges all values are of one group.
    """

    sizes: Array
    mean_ns: Array
    spread: Array
    edges: Array = field(default_factory=lambda: np.zeros(0))
    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def mean(self, sizes: Array) -> Array:
        """Mean service in ns of queries of the given sizes (any shape); never below 1 ns."""
        return _by_size(self._mean, np.asarray(sizes))

    def _mean(self, sizes: Array) -> Array:
        n = np.asarray(sizes, dtype=np.float64)
        inside = np.interp(n, self.sizes, self.mean_ns)
        if self.sizes.size > 1:
            first, last = (max(float(x), 0.0) for x in (np.diff(self.mean_ns) / np.diff(self.sizes))[[0, -1]])
            inside = inside + np.maximum(n - self.sizes[-1], 0.0) * last
            # A query that is smaller still costs at least its share: nothing has a negative fixed cost.
            share = self.mean_ns[0] * np.minimum(n / self.sizes[0], 1.0)
            inside = np.where(n < self.sizes[0], np.maximum(inside - (self.sizes[0] - n) * first, share), inside)
        positive: Array = np.maximum(inside, 1.0)
        return positive

    @property
    def log_sd(self) -> float:
        """Standard deviation of log(service / mean): the noise that the size does not explain."""
        return float(np.log(self.spread).std())

    def without_noise(self) -> ServiceTable:
        """The same means, and every service time at its mean."""
        return ServiceTable(sizes=self.sizes, mean_ns=self.mean_ns, spread=np.ones(1))

    def group(self, sizes: Array) -> Array:
        """Number of the noise group of each size."""
        return _by_size(self._group, np.asarray(sizes))

    def _group(self, sizes: Array) -> Array:
        return np.searchsorted(self.edges, sizes, side="left")

    def values(self, size: float) -> Array:
        """The equally likely factors of a query of this size."""
        if not self.edges.size:
            return self.spread
        last = np.cumsum(self.counts)
        group = int(self._group(np.asarray(size)))
        found: Array = self.spread[last[group] - self.counts[group] : last[group]]
        return found

    def spans(self, sizes: Array) -> tuple[Array, Array]:
        """Where the values of each size begin in ``spread``, and how many there are; both as sizes."""
        given = np.asarray(sizes)
        if not self.edges.size:
            return np.zeros(given.shape, np.int64), np.full(given.shape, self.spread.size)
        first, group = np.cumsum(self.counts) - self.counts, self.group(given)
        return first[group], self.counts[group]

    def draw(self, copies: tuple[int, ...], sizes: Array, seed: int) -> Array:
        """Random service factors for queries of these sizes, (*copies, *sizes.shape); the same for the same seed."""
        uniform = uniforms(seed, (*copies, *np.shape(sizes)))
        if not self.edges.size:
            factors: Array = self.spread[(uniform * self.spread.size).astype(np.int64)]
            return factors
        first, count = self.spans(sizes)
        factors = self.spread[first + (uniform * count).astype(np.int64)]
        return factors


def _by_size(function: Callable[[Array], Array], sizes: Array) -> Array:
    """function(sizes), of one that looks at each size by itself: once for each whole number up to the largest."""
    if sizes.dtype.kind not in "iu" or not sizes.size:
        return function(sizes)
    largest = int(sizes.max())
    if largest >= min(sizes.size, _LOOKED_UP) or sizes.min() < 0:
        return function(sizes)
    found: Array = function(np.arange(largest + 1))[sizes]
    return found


def fit_service_table(sizes: Array, service_ns: Array) -> ServiceTable:
    """Service table from samples. sizes, service_ns: (n,), n >= 2; every service time positive.

    Up to 24 knots: each distinct size, or groups of neighbouring sizes with equal counts where there are more. The
    noise has a group of its own for every 100 samples, up to as many as there are knots.
    """
    n, service = np.asarray(sizes, dtype=np.float64), np.asarray(service_ns, dtype=np.float64)
    if n.size < 2 or n.shape != service.shape:
        raise ValueError("a service table needs at least 2 sizes, each with one finite positive service time")
    return SampledSizes(n).fit(service)


class SampledSizes:
    """The sizes of n samples, and how these are grouped: for several tables of the same samples. n: (n,), n >= 2."""

    def __init__(self, n: Array) -> None:
        if n.min() >= 0.0 and n.max() < _LOOKED_UP and (n == (whole := n.astype(np.int64))).all():
            counts = np.bincount(whole)
            present = np.flatnonzero(counts)
            number = np.zeros(counts.size, np.int64)
            number[present] = np.arange(present.size)
            self._distinct, self._place, self._counts = present.astype(np.float64), number[whole], counts[present]
        else:
            self._distinct, self._place, self._counts = np.unique(n, return_inverse=True, return_counts=True)
        self._knot = self._place
        if self._distinct.size > _KNOTS:
            _, knot = np.unique(np.searchsorted(self._edges(_KNOTS), self._distinct, side="left"), return_inverse=True)
            self._knot = knot[self._place]
        self._in_knot = np.bincount(self._knot)
        self._knots = np.bincount(self._knot, n) / self._in_knot
        self._parting = self._edges(min(n.size // _GROUP_SAMPLES, self._knots.size))
        member = np.searchsorted(self._parting, self._distinct, side="left").astype(np.int16)[self._place]
        self._order = np.argsort(member, kind="stable") if self._parting.size else None
        self._ends = np.cumsum(np.bincount(member, minlength=self._parting.size + 1))[:-1]

    def fit(self, service: Array) -> ServiceTable:
        """``fit_service_table`` of these samples. service: (n,) in ns."""
        if not (service > 0).all() or not np.isfinite(service).all():
            raise ValueError("a service table needs at least 2 sizes, each with one finite positive service time")
        mean = np.bincount(self._knot, service) / self._in_knot
        expected = ServiceTable(sizes=self._knots, mean_ns=mean, spread=np.ones(1)).mean(self._distinct)[self._place]
        ratios = service / expected
        ratios = ratios / ratios.mean()
        parts = [ratios] if self._order is None else np.split(ratios[self._order], self._ends)
        lumped = [_lumped(part, SPREAD_POINTS) for part in parts]
        return ServiceTable(
            sizes=self._knots, mean_ns=mean, spread=np.concatenate(lumped), edges=self._parting,
            counts=np.array([part.size for part in lumped]),
        )  # fmt: skip

    def _edges(self, groups: int) -> Array:
        """Sizes that part the samples into about so many groups of equal counts, the last one open; (groups - 1,).

        The quantiles of the samples, linear between two order statistics as ``np.quantile`` takes them, read off the
        counts of each size.
        """
        if groups < 2:
            return np.zeros(0)
        last = np.cumsum(self._counts)
        highest = int(last[-1]) - 1
        place = highest * np.linspace(0, 1, groups + 1)[1:-1]
        lower = np.floor(place)
        low, high = (
            self._distinct[np.searchsorted(last, rank, side="right")]
            for rank in (lower, np.minimum(lower + 1, highest))
        )
        share, step = place - lower, high - low
        edges: Array = np.unique(np.where(share >= 0.5, high - step * (1.0 - share), low + step * share))
        inside: Array = edges[(edges >= self._distinct[0]) & (edges < self._distinct[-1])]
        return inside


def _lumped(values: Array, points: int) -> Array:
    """At most so many equally likely values: the means of as many equal shares of the ordered values."""
    ordered = np.sort(values)
    if ordered.size <= points:
        return ordered
    below = np.interp(
        np.linspace(0.0, ordered.size, points + 1),
        np.arange(ordered.size + 1),
        np.concatenate(([0.0], np.cumsum(ordered))),
    )
    lumped: Array = np.diff(below) * (points / ordered.size)
    return lumped
