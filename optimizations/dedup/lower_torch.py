"""dedup on PyTorch: the split first layer of the reference. ``fusion`` and the precisions bring their own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from optimizations.lowering import LoweringContext
from optimizations.split_layers import SplitFullyConnected
from zoo.blueprint import Block


def _split(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return SplitFullyConnected(reference, block)


BUILDERS: dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]] = {
    ("fc.split", "reference", "fp32"): _split,
}
