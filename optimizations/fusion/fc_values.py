"""What a node of a layer's graph is made of: the batch, the terms of a product, products, monomials in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

Axis = Literal["rows", "columns", "one", "outputs"]
"""``one``: of size 1. ``outputs``: those of a product whose sum over its ``columns`` is still to be taken."""

Axes = tuple[Axis, ...]
SINGLE: Axes = ("one",)
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Batch:
    """The layer's input, per column: x * scale + shift, each [inputs] or []."""

    axes: Axes
    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, eq=False)
class Terms:
    """Every term of a product, x * weight [outputs, inputs], before their sum."""

    axes: Axes
    batch: Batch
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Product:
    """z = x W^T + b: weight [outputs, inputs], bias [outputs]; the thresholds and gates of z that were met so far."""

    weight: Tensor
    bias: Tensor
    thresholds: list[Tensor] = field(default_factory=list)
    gates: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def outputs(self) -> int:
        """Rows of the weight."""
        return len(self.weight)

    def threshold(self, value: Tensor) -> int:
        """Number of the step z > value [outputs]."""
        return _number(self.thresholds, value)

    def gate(self, scale: Tensor, shift: Tensor) -> int:
        """Number of the gate sigmoid(z * scale + shift), both [outputs]."""
        for number, (known_scale, known_shift) in enumerate(self.gates):
            if near(known_scale, scale) and near(known_shift, shift):
                return number
        self.gates.append((scale, shift))
        return len(self.gates) - 1


class Monomial(NamedTuple):
    """z ** power, times 1 where z exceeds all thresholds in ``steps`` and else 0, times the gates in ``gates``."""

    power: int = 0
    steps: frozenset[int] = frozenset()
    gates: tuple[int, ...] = ()

    def times(self, other: Monomial) -> Monomial:
        """Their product; a step times itself is itself."""
        gates = tuple(sorted((Counter(self.gates) + Counter(other.gates)).elements()))
        return Monomial(self.power + other.power, self.steps | other.steps, gates)


ONE, Z = Monomial(), Monomial(1)


def near(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding."""
    return a.shape == b.shape and bool(((a - b).abs() <= ROUNDING * (1 + b.abs())).all())


def _number(known: list[Tensor], value: Tensor) -> int:
    for number, each in enumerate(known):
        if near(each, value):
            return number
    known.append(value)
    return len(known) - 1
