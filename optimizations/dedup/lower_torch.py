"""dedup on PyTorch: the reference's first layers, split. ``fusion`` and the precisions bring their own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from optimizations.lowering import LoweringContext
from optimizations.split_layers import SplitAttention, SplitFullyConnected
from zoo.blueprint import Block


def _layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return SplitFullyConnected(reference, block)


def _attention(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return SplitAttention(reference)


BUILDERS: dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]] = {
    ("fc.split", "reference", "fp32"): _layer,
    ("attention.split", "reference", "fp32"): _attention,
}
