"""A unit: one block of a model in two forms, and what became of measuring it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from optimizations.lowering import LoweringError
from tests.bench.units.pairing import Blocks, Form, Forms, Paired
from tests.bench.units.roofline import Roof, Roofline
from tests.bench.units.work import Work

TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "int8": 2e-2}
"""Largest difference from the unfused form in fp32, over the largest magnitude of its result: bfloat16 keeps 8 digits,
a byte 8 and less; some of that averages out in a sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """``unfused`` is the framework's form in fp32, as a plan without optimizations runs it; ``fuse`` builds the other.

    inputs: arguments of one call of either form, made anew for every call. origin: row of the source documents.
    table: where the rows of ``work.random_bytes`` lie. claimed_ratio and wanted_share: what the unit is judged by.
    """

    name: str
    origin: str
    dtype: str
    work: Work
    inputs: Callable[[], tuple[Any, ...]]
    unfused: Form
    fuse: Callable[[], Form]
    table: Tensor | None = None
    claimed_ratio: float | None = None
    wanted_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """``problem`` says why there is no measurement; ``wrong``: because the two forms do not agree."""

    unit: Unit
    paired: Paired | None = None
    roof: Roof | None = None
    error: float | None = None
    problem: str = ""
    wrong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurable:
    """A unit whose forms agree, ready to be timed."""

    unit: Unit
    roof: Roof
    error: float
    blocks: Blocks

    def result(self) -> UnitResult:
        """What its blocks say."""
        return UnitResult(unit=self.unit, paired=self.blocks.result(), roof=self.roof, error=self.error)


def prepared(unit: Unit, roofline: Roofline, block_ms: float) -> Measurable | UnitResult:
    """Build the fused form and hold its result against the unfused one; a result at once if it cannot be timed."""
    try:
        fused = unit.fuse()
    except LoweringError as missing:
        return UnitResult(unit=unit, problem=str(missing))
    arguments = unit.inputs()
    error = difference(unit.unfused(*arguments), fused(*arguments))
    if not error <= TOLERANCE[unit.dtype]:
        problem = f"the forms differ by {error:.1e} of the result's range; {TOLERANCE[unit.dtype]:.0e} is allowed"
        return UnitResult(unit=unit, error=error, problem=problem, wrong=True)
    roof, amount = roofline.bounding(unit.work, unit.dtype, unit.table)
    forms = Forms(unfused=unit.unfused, fused=fused, inputs=unit.inputs, roof=roof.measured, amount=amount)
    return Measurable(unit=unit, roof=roof, error=error, blocks=Blocks(forms, block_ms))


def difference(expected: Any, found: Any) -> float:
    """Largest difference over the largest magnitude expected, the worst of all tensors of a result; integers have to
    be equal, else it is infinite. What the unfused form leaves out (None) is not compared."""
    if expected is None:
        return 0.0
    if isinstance(expected, Iterable) and not isinstance(expected, Tensor):
        return max(difference(a, b) for a, b in zip(expected, found, strict=True))
    if expected.shape != found.shape:
        return math.inf
    if not expected.is_floating_point():
        return 0.0 if bool((expected == found).all()) else math.inf
    if not expected.numel():
        return 0.0
    gap, largest = float((expected - found).abs().max()), float(expected.abs().max())
    return gap / largest if largest else (0.0 if gap == 0 else math.inf)
