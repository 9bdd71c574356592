"""Which activation of the kernels a polynomial in a product and its gates is, and what has to go into the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optimizations.fusion.fc_expressions import Expression
from optimizations.fusion.fc_values import ONE, ROUNDING, Monomial, Product, Z, near
from optimizations.lowering import LoweringError


@dataclass(frozen=True, eq=False)
class RecognisedLayer:
    """activation(x W^T + b), in double precision; ``kind`` is a key of ``kernels.interface.ACTIVATIONS``.

    weight [outputs, inputs], bias [outputs]; slope [outputs]: of "prelu" and "dice"; scale and shift [outputs]: of
    "dice", f(z) = z * (g + slope * (1 - g)) with g = sigmoid(z * scale + shift).
    """

    weight: Tensor
    bias: Tensor
    kind: str
    slope: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None

    def activate(self, z: Tensor) -> Tensor:
        """The activation by its formula: [R, outputs] to the same."""
        if self.kind == "relu":
            return z.clamp(min=0)
        if self.kind == "sigmoid":
            return torch.sigmoid(z)
        if self.slope is None:
            return z
        if self.scale is None or self.shift is None:
            return torch.where(z > 0, z, self.slope * z)
        gate = torch.sigmoid(z * self.scale + self.shift)
        return z * (gate + self.slope * (1 - gate))


def recognised(expression: Expression) -> RecognisedLayer:
    """The layer that computes ``expression``. Raises LoweringError where no activation of the kernels equals it."""
    terms = {monomial: c for monomial, c in expression.terms.items() if c.abs().max() > ROUNDING}
    steps = {monomial.steps for monomial in terms if monomial.steps}
    gates = {monomial.gates for monomial in terms if monomial.gates}
    flat = all(monomial.power <= 1 for monomial in terms) and all(len(each) == 1 for each in (*steps, *gates))
    if not flat or len(steps) + len(gates) > 1:
        raise LoweringError("no activation of the kernels has this form")
    if steps:
        return _kinked(expression.product, terms, *steps)
    if gates:
        return _gated(expression.product, terms, *gates)
    if Z not in terms:
        raise LoweringError("the output does not depend on the input")
    zeros = torch.zeros_like(expression.product.bias)
    return RecognisedLayer(*_moved(expression.product, terms[Z], terms.get(ONE, zeros)), "none")


def _kinked(product: Product, terms: dict[Monomial, Tensor], step: frozenset[int]) -> RecognisedLayer:
    """Two half lines that meet in 0: ReLU, PReLU, and what a scale of the weights makes of them."""
    zeros = torch.zeros_like(product.bias)
    below, offset = terms.get(Z, zeros), terms.get(ONE, zeros)
    bend, jump = terms.get(Monomial(1, step), zeros), terms.get(Monomial(0, step), zeros)
    (number,) = step
    threshold = product.thresholds[number]
    if not near(jump, -bend * threshold):
        raise LoweringError("an activation that jumps")
    if not near(offset, -below * threshold):
        raise LoweringError("an activation whose kink does not lie in 0")
    above = _snapped(below + bend)
    rising = above > 0
    if not (rising | (below < 0)).all():
        raise LoweringError("an activation that is nowhere positive is no ReLU and no PReLU")
    scale = torch.where(rising, above, below)
    slope = torch.where(rising, below, above) / scale
    weight, bias = _moved(product, scale, -scale * threshold)
    if slope.abs().max() <= ROUNDING:
        return RecognisedLayer(weight, bias, "relu")
    return RecognisedLayer(weight, bias, "prelu", slope)


def _gated(product: Product, terms: dict[Monomial, Tensor], gate: tuple[int, ...]) -> RecognisedLayer:
    """Sigmoid, or a line times a gate: Dice, SiLU (Dice with slope 0 and the gate of z itself)."""
    zeros = torch.zeros_like(product.bias)
    rest, offset = terms.get(Z, zeros), terms.get(ONE, zeros)
    times_gate, alone = terms.get(Monomial(1, gates=gate), zeros), terms.get(Monomial(0, gates=gate), zeros)
    scale, shift = product.gates[gate[0]]
    if Z not in terms and Monomial(1, gates=gate) not in terms:
        if not (near(alone.abs(), torch.ones_like(alone)) and near(offset, (1 - alone) / 2)):
            raise LoweringError("a sigmoid that is scaled or shifted")
        sign = alone.sign()
        return RecognisedLayer(*_moved(product, sign * scale, sign * shift), "sigmoid")
    moved = torch.where(times_gate != 0, alone / times_gate, offset / rest)
    total = _snapped(times_gate + rest)
    if not (torch.isfinite(moved).all() and near(alone, times_gate * moved) and near(offset, rest * moved)):
        raise LoweringError("a gate on something else than its own line")
    if (total.abs() <= ROUNDING).any():
        raise LoweringError("a gate of slope without end")
    weight, bias = _moved(product, total, total * moved)
    return RecognisedLayer(weight, bias, "dice", rest / total, scale / total, shift - scale * moved)


def _moved(product: Product, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of scale * z + shift."""
    return scale.unsqueeze(1) * product.weight, scale * product.bias + shift


def _snapped(x: Tensor) -> Tensor:
    """1 where it is 1 but for rounding: the weights stay as they are then."""
    return torch.where((x - 1).abs() <= ROUNDING, 1.0, x)
