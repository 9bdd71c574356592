"""tf32 on PyTorch: the library's own switch on CUDA; on a CPU the operands of each product are rounded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optimizations.lowering import LoweringContext
from optimizations.matrix_products import StepwiseAugru, StepwiseGru, with_products
from optimizations.split_layers import SplitAttention, SplitFullyConnected
from zoo.blueprint import Block

Builder = Callable[[nn.Module, Block, LoweringContext], nn.Module]


def rounded(x: Tensor) -> Tensor:
    """x [fp32] to 10 mantissa bits, nearest even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class RoundedProduct(nn.Module):
    """x W^T + b with both operands rounded; products and sums in fp32, as on the tensor cores."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = rounded(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        return F.linear(rounded(x), self.weight, self.bias)


class RoundedOperand(nn.Module):
    """A block whose single input is the operand of its product."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__()
        self.reference = reference

    def forward(self, x: Tensor) -> Tensor:
        """The reference on the rounded input."""
        result: Tensor = self.reference(rounded(x))
        return result


def native_on_cuda(emulated: Builder) -> Builder:
    """The reference as it is on CUDA, where the library rounds; elsewhere what ``emulated`` builds."""

    def build(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
        if context.device == "cuda":
            # Process-wide switches: they live and die with the system under test.
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            return reference
        return emulated(reference, block, context)

    return build


def _layers(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return with_products(reference, RoundedProduct)


def _split_layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return native_on_cuda(_layers)(SplitFullyConnected(reference, block), block, context)


def _split_attention(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return native_on_cuda(_layers)(SplitAttention(reference), block, context)


def _interaction(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return RoundedOperand(reference)


def _recurrent(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    cell = StepwiseAugru if block.kind == "augru" else StepwiseGru
    return cell(reference, RoundedProduct)


BUILDERS: dict[tuple[str, str, str], Builder] = {
    ("fc", "reference", "tf32"): native_on_cuda(_layers),
    ("fc.split", "reference", "tf32"): _split_layer,
    ("attention", "reference", "tf32"): native_on_cuda(_layers),
    ("attention.split", "reference", "tf32"): _split_attention,
    ("interaction", "reference", "tf32"): native_on_cuda(_interaction),
    ("recurrent", "reference", "tf32"): native_on_cuda(_recurrent),
}
