"""Medians and quantiles of many groups of values: the bits of numpy at a fraction of its time. Pure functions.

numpy's own cost some 0.1 ms a call, whatever they are given; one estimate asks for tens of thousands of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_ROWS = 64
"""Up to so many groups are taken one after the other, more of them side by side."""
_FILLED = 4
_SHORT = 2**15


def median(values: Array) -> float:
    """The median as ``np.median`` gives it, of a (n,) without NaN; n >= 1."""
    middle = values.size // 2
    parted = np.partition(values, middle)
    if values.size % 2:
        return float(parted[middle])
    return 0.5 * (float(parted[:middle].max()) + float(parted[middle]))


def quantile(values: Array, share: float) -> float:
    """The quantile as ``np.quantile`` gives it, linear between two order statistics, of a (n,) without NaN; n >= 1."""
    place = (values.size - 1) * share
    lower = math.floor(place)
    upper = min(lower + 1, values.size - 1)
    parted = np.partition(values, (lower, upper))
    return between(float(parted[lower]), float(parted[upper]), place - lower)


def between(low: float, high: float, share: float) -> float:
    """The value a share of the way from low to high, in the form that loses least at either end (as numpy's)."""
    step = high - low
    return high - step * (1.0 - share) if share >= 0.5 else low + step * share


class Groups:
    """Which of n values belong together, for several questions about the same groups.

    group: (n,) whole numbers, any.
    """

    def __init__(self, group: Array) -> None:
        self._order = None if np.all(group[1:] >= group[:-1]) else _stable_order(group)
        ordered = group if self._order is None else group[self._order]
        first = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        self._first = np.concatenate(([0], first)) if group.size else np.zeros(0, np.int64)
        self._sizes = np.diff(self._first, append=group.size)

    def parts(self, values: Array) -> list[Array]:
        """The values of each group, by ascending group, in the order given."""
        if not values.size:
            return []
        return np.split(values if self._order is None else values[self._order], self._first[1:])

    def spread(self, of_group: Array) -> Array:
        """What is known of each group, by ascending group, for each of its values; (n,)."""
        each: Array = np.repeat(of_group, self._sizes)
        if self._order is None:
            return each
        found = np.empty_like(each)
        found[self._order] = each
        return found

    def medians(self, values: Array) -> Array:
        """The median of each value's group; (n,)."""
        widest = int(self._sizes.max(initial=0))
        if self._sizes.size <= _ROWS or self._sizes.size * widest > _FILLED * values.size:
            return self.spread(np.array([median(part) for part in self.parts(values)]))
        rows, row = np.full((self._sizes.size, widest), np.inf), np.arange(self._sizes.size)
        ordered = values if self._order is None else values[self._order]
        rows[np.repeat(row, self._sizes), np.arange(values.size) - np.repeat(self._first, self._sizes)] = ordered
        rows.sort(axis=1)
        return self.spread(0.5 * (rows[row, (self._sizes - 1) // 2] + rows[row, self._sizes // 2]))


def _stable_order(group: Array) -> Array:
    """The order that brings groups together and leaves each as it was; small numbers are counted, not compared."""
    lowest, highest = int(group.min()), int(group.max())
    if highest - lowest < _SHORT:
        group = (group - lowest).astype(np.int16)
    return np.argsort(group, kind="stable")


def grouped_medians(values: Array, group: Array) -> Array:
    """The median of each value's group, as ``np.median`` gives it. values, group: (n,); groups are any integers."""
    return Groups(group).medians(values)
