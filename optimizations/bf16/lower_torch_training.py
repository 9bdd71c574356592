"""bf16 in training on PyTorch: the three products of a fully connected layer with operands in bfloat16.

Parameters, gradients as they reach the optimizers, and the optimizers stay in fp32 (Micikevicius et al., 2018, section
3.1: master weights); with the exponent of fp32 there is no loss to scale.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from optimizations.fusion.trained_dice import trained_dice
from optimizations.lowering import LoweringContext, LoweringError
from zoo.blueprint import Block
from zoo.layers.mlp import FullyConnected


class Bf16Linear(nn.Module):
    """x W^T + b with the parameters of ``reference``, the same objects under the same names."""

    def __init__(self, reference: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = reference.weight, reference.bias

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs] in fp32."""
        found: Tensor = _Products.apply(x, self.weight, self.bias)
        return found


class _Products(torch.autograd.Function):
    """Each of y = x W^T, the gradients by x and by W: operands rounded, sums in fp32, the result rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        rounded, rounded_weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(rounded, rounded_weight)
        return F.linear(rounded, rounded_weight).float().add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # type: ignore[override]
        rounded, rounded_weight = ctx.saved_tensors
        rounded_gradient = gradient.bfloat16()
        to_x = (rounded_gradient @ rounded_weight).float() if ctx.needs_input_grad[0] else None
        return to_x, (rounded_gradient.t() @ rounded).float(), gradient.sum(0)


class Bf16FullyConnected(FullyConnected):
    """``FullyConnected`` with its products in bfloat16."""

    def __init__(self, reference: FullyConnected) -> None:
        nn.Module.__init__(self)
        self.linear, self.activation, self.kind = Bf16Linear(reference.linear), reference.activation, reference.kind


def _layer(reference: nn.Module, block: Block, context: LoweringContext) -> FullyConnected:
    if type(reference) is not FullyConnected:
        raise LoweringError(f"a {type(reference).__name__} is not trained in bf16: it is no fully connected layer")
    return Bf16FullyConnected(reference)


def _fused_layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    if block.kind != "dice":
        return _layer(reference, block, context)
    made = trained_dice(reference)
    made.linear = Bf16Linear(reference.linear)  # type: ignore[arg-type]
    return made


BUILDERS = {("fc", "reference", "bf16"): _layer, ("fc", "fused", "bf16"): _fused_layer}
