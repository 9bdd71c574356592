"""Whether two trainings of the same mathematics are at the same parameters, to within what rounding does. Numpy only.

Adam and Adagrad divide a gradient by its own size. Where a gradient is rounding alone, a step of either sign is right,
and such steps spread: no absolute tolerance holds for every element, nor any for many steps. So few steps are compared,
by quantiles over the elements of each tensor, in units of how far the tensor moved (root mean square). The measure of
what may differ is the plain loop itself, on the same batches with their samples in another order: the same sums, in
another order. Elements that this moves by a tenth of that unit are not compared; the bias before a softmax is one: its
gradient is rounding and nothing else.

Further on, bursts of a few steps are compared that begin anywhere, from a state at which the optimizers know the size
of most gradients. In many of them two right trainings stay as close as after two steps; in others a unit that one of
them switches on, or the first gradient of a row, changes its sign by rounding, and they are some percent apart, as the
plain loop in other orders over the same burst is. Whoever leaves out a step is farther off than that, each time. So the
middle one of all bursts has to be close, by what other orders do over it, and none far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

UNDETERMINED = 0.1
"""In units of a tensor's movement: elements that another order moves so far are nobody's."""
FACTOR = 10.0
"""How much farther than another order of the samples a candidate may be: its kernels round otherwise, too."""
P50_FLOOR, P99_FLOOR, TAIL = 3e-3, 3e-2, 2e-3
"""Tolerances below which nothing is asked; TAIL: share of elements that may be off by ``UNDETERMINED``."""
FAR = 0.1
"""Median distance at which a burst has not ended where the baseline's did, whatever rounding does."""
FEWEST = 16
"""Elements of a tensor below which its quantiles say nothing of another burst's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorParity:
    """One tensor after ``steps`` steps. Distances to the baseline's parameters, over ``compared`` of the ``elements``
    that moved on either side, in units of ``scale``, the root mean square of the baseline's movement.

    stage: gate | timed (the compared burst of a ``half`` of a ``quad``) | reordered (the plain loop itself in another
    order, over the same burst); in the last two reordered_* are 0. quad, half: -1 outside of quads. p50, p99, tail: of
    the candidate, quantiles and the share beyond ``UNDETERMINED``.
    """

    stage: str
    tensor: str
    quad: int
    half: int
    steps: int
    elements: int
    compared: int
    scale: float
    reordered_p50: float
    reordered_p99: float
    p50: float
    p99: float
    tail: float

    @property
    def tolerance(self) -> float:
        """Of the median distance."""
        return max(P50_FLOOR, FACTOR * self.reordered_p50)

    @property
    def used(self) -> float:
        """Which part of its tolerance the worst of its distances takes; above 1 is too far."""
        if not self.compared:
            return 0.0
        p99 = self.p99 / max(P99_FLOOR, FACTOR * self.reordered_p99)
        return max(self.p50 / self.tolerance, p99, self.tail / TAIL)

    def used_beside(self, reordered: Sequence[TensorParity]) -> float:
        """The same by what other orders do to this tensor over the same burst."""
        found = [(self.p50, P50_FLOOR, [row.p50 for row in reordered])]
        found += [(self.p99, P99_FLOOR, [row.p99 for row in reordered]), (self.tail, TAIL, [r.tail for r in reordered])]
        return max(distance / max(floor, FACTOR * max(others, default=0.0)) for distance, floor, others in found)


def tensor_parity(
    stage: str,
    tensor: str,
    steps: int,
    start: Array,
    baseline: Array,
    candidate: Array,
    reordered: Sequence[Array] = (),
    burst: tuple[int, int] = (-1, -1),
) -> TensorParity | None:
    """Compare one tensor; None where no element of it moved on either side.

    All arrays have one shape. ``reordered``: the plain loop's with the samples of each batch in other orders. A
    distance that is not a number counts as infinite. ``burst``: quad and half.
    """
    moved = (baseline != start) | (candidate != start)
    if not moved.any():
        return None
    begun, own = start[moved].astype(np.float64), baseline[moved].astype(np.float64)
    scale = float(np.sqrt(np.mean(np.square(own - begun)))) or 1.0
    others = [np.abs(other[moved].astype(np.float64) - own) / scale for other in reordered]
    measure = np.max(others, axis=0) if others else np.zeros(len(own))
    distance = np.abs(candidate[moved].astype(np.float64) - own) / scale
    distance[~np.isfinite(distance)] = np.inf
    known = measure < UNDETERMINED
    return TensorParity(
        stage=stage,
        tensor=tensor,
        quad=burst[0],
        half=burst[1],
        steps=steps,
        elements=len(own),
        compared=int(np.count_nonzero(known)),
        scale=scale,
        reordered_p50=_quantile(measure[known], 0.50),
        reordered_p99=_quantile(measure[known], 0.99),
        p50=_quantile(distance[known], 0.50),
        p99=_quantile(distance[known], 0.99),
        tail=float(np.mean(distance[known] > UNDETERMINED)) if known.any() else 0.0,
    )


def worst(rows: Iterable[TensorParity]) -> TensorParity | None:
    """The tensor that takes the largest part of its tolerance; None without any."""
    return max(rows, key=lambda row: row.used, default=None)


def _quantile(values: Array, share: float) -> float:
    """An observed value at the rank from below, never interpolated; 0 without any."""
    return float(np.quantile(values, share, method="higher")) if len(values) else 0.0
