"""int8 on PyTorch: fused kernels on bytes, or the same arithmetic by the framework."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from optimizations.fusion.fc_module import described
from optimizations.fusion.torch_dense import FusedFullyConnected, FusedSplit
from optimizations.int8.quantization import Int8Product, largest_inputs, quantized
from optimizations.lowering import LoweringContext
from optimizations.split_layers import SplitFullyConnected, shared_columns
from zoo.blueprint import Block
from zoo.layers.mlp import FullyConnected


def _fused(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    layer = described(reference, block)
    weight = quantized(_weight(layer), largest_inputs(context, block.path))
    return FusedFullyConnected(layer, block.dtype, context.threads, weight)


def _fused_split(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    split, (users, samples) = _parts(reference, block, context)
    weights = quantized(_weight(split.users), users), quantized(_weight(split.samples), samples)
    return FusedSplit(split, block.dtype, context.threads, weights)


def _layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return _on_integers(described(reference, block), largest_inputs(context, block.path))


def _split_layer(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    split, (users, samples) = _parts(reference, block, context)
    split.users, split.samples = _on_integers(split.users, users), _on_integers(split.samples, samples)
    return split


def _on_integers(layer: FullyConnected, largest: Tensor) -> FullyConnected:
    changed = copy.deepcopy(layer)
    product: nn.Module = Int8Product(quantized(_weight(layer), largest), layer.linear.bias.detach())
    setattr(changed, "linear", product)  # noqa: B010 (it is no nn.Linear any more)
    return changed


def _parts(
    reference: nn.Module, block: Block, context: LoweringContext
) -> tuple[SplitFullyConnected, tuple[Tensor, Tensor]]:
    """The layer in two, and the largest inputs of both."""
    largest, shared = largest_inputs(context, block.path), shared_columns(block)
    return SplitFullyConnected(reference, block), (largest[shared], largest[~shared])


def _weight(layer: FullyConnected) -> Tensor:
    return layer.linear.weight.detach()


BUILDERS: dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]] = {
    ("fc", "fused", "int8"): _fused,
    ("fc.split", "fused", "int8"): _fused_split,
    ("fc", "reference", "int8"): _layer,
    ("fc.split", "reference", "int8"): _split_layer,
}
