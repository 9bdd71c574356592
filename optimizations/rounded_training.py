"""Fully connected layers in training with rounded operands in all three of their products; everything else in fp32.

Parameters, gradients as they reach the optimizers, and the optimizers stay in fp32 (Micikevicius et al., "Mixed
Precision Training", 2018, section 3.1: master weights). For formats with the exponent of fp32: no loss is scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from optimizations.fusion.trained_dice import trained_dice
from optimizations.lowering import LoweringContext, LoweringError
from zoo.blueprint import Block
from zoo.layers.mlp import FullyConnected

Rounding = Callable[[Tensor], Tensor]
"""An operand in fp32 as it is multiplied: of the type of the product."""
Builders = dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]]


class RoundedLinear(nn.Module):
    """x W^T + b with the parameters of ``reference``, the same objects under the same names."""

    def __init__(self, reference: nn.Linear, rounding: Rounding) -> None:
        super().__init__()
        self.weight, self.bias, self._rounding = reference.weight, reference.bias, rounding

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs] in fp32."""
        found: Tensor = _Products.apply(x, self.weight, self.bias, self._rounding)
        return found


class _Products(torch.autograd.Function):
    """Each of y = x W^T, the gradients by x and by W: operands rounded, sums in fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rounding: Rounding) -> Tensor:  # type: ignore[override]
        rounded, rounded_weight = rounding(x), rounding(weight)
        ctx.save_for_backward(rounded, rounded_weight)
        ctx.rounding = rounding
        return F.linear(rounded, rounded_weight).float().add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        rounded, rounded_weight = ctx.saved_tensors
        rounded_gradient = ctx.rounding(gradient)
        to_x = (rounded_gradient @ rounded_weight).float() if ctx.needs_input_grad[0] else None
        return to_x, (rounded_gradient.t() @ rounded).float(), gradient.sum(0), None


class RoundedFullyConnected(FullyConnected):
    """``FullyConnected`` with rounded operands in its products."""

    def __init__(self, reference: FullyConnected, rounding: Rounding) -> None:
        nn.Module.__init__(self)
        self.linear, self.activation = RoundedLinear(reference.linear, rounding), reference.activation
        self.kind = reference.kind


def trained_blocks(dtype: str, rounding: Rounding) -> Builders:
    """The builders of ``dtype``: of layers by themselves, and of those whose activation is fused."""

    def layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
        if type(reference) is not FullyConnected:
            kind = type(reference).__name__
            raise LoweringError(f"a {kind} is not trained in {dtype}: it is no fully connected layer")
        return RoundedFullyConnected(reference, rounding)

    def fused(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
        if block.kind != "dice":
            return layer(reference, block, context)
        made = trained_dice(reference)
        made.linear = RoundedLinear(reference.linear, rounding)  # type: ignore[arg-type]
        return made

    return {("fc", "reference", dtype): layer, ("fc", "fused", dtype): fused}
