"""bf16 on PyTorch, for blocks that stay with the framework: operands in bfloat16, everything else in fp32."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from optimizations.lowering import LoweringContext
from optimizations.matrix_products import StepwiseAugru, StepwiseGru, with_products
from optimizations.split_layers import SplitAttention, SplitFullyConnected
from zoo.blueprint import Block
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.tensors import Embedded, Features


class Bf16Product(nn.Module):
    """x W^T + b with both operands in bfloat16; the bias is added in fp32."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight.bfloat16(), bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs] in fp32."""
        return F.linear(x.bfloat16(), self.weight).float() + self.bias


class Bf16Embedding(nn.Module):
    """Same signature as ``EmbeddingTables``: rows of bfloat16, half the bytes per lookup, handed on in fp32."""

    def __init__(self, reference: EmbeddingTables) -> None:
        super().__init__()
        self.embedding = copy.deepcopy(reference).bfloat16()

    def forward(self, features: Features) -> Embedded:
        """Vectors of both sides, of the targets and of the behaviours."""
        return Embedded(*(None if part is None else part.float() for part in self.embedding(features)))


def _embedding(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return Bf16Embedding(reference)


def _layers(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return with_products(reference, Bf16Product)


def _split_layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return with_products(SplitFullyConnected(reference, block), Bf16Product)


def _split_attention(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return with_products(SplitAttention(reference), Bf16Product)


def _recurrent(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    cell = StepwiseAugru if block.kind == "augru" else StepwiseGru
    return cell(reference, Bf16Product)


BUILDERS: dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]] = {
    ("embedding", "reference", "bf16"): _embedding,
    ("fc", "reference", "bf16"): _layers,
    ("fc.split", "reference", "bf16"): _split_layer,
    ("attention", "reference", "bf16"): _layers,
    ("attention.split", "reference", "bf16"): _split_attention,
    ("recurrent", "reference", "bf16"): _recurrent,
}
