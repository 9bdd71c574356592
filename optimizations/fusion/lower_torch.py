"""fusion on PyTorch: the reference blocks' native replacements. CPU only; elsewhere the reference stays, on record."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from optimizations.fusion.fc_module import check_sizes
from optimizations.fusion.native_program import NativeProgram
from optimizations.fusion.torch_dense import FusedFullyConnected, FusedInteraction, FusedSplit
from optimizations.fusion.torch_embedding import FusedEmbedding, FusedWide
from optimizations.fusion.torch_features import FusedFeatures
from optimizations.fusion.torch_sequence import FusedAttention, FusedAugru, FusedGru
from optimizations.lowering import LoweringContext, LoweringError
from optimizations.split_layers import SplitFullyConnected
from zoo.blueprint import Block

Builder = Callable[[nn.Module, Block, LoweringContext], nn.Module]


def _on_cpu(builder: Builder) -> Builder:
    def build(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
        if context.device != "cpu":
            raise LoweringError(f"the fused kernels run on device=cpu, not on device={context.device}")
        return builder(reference, block, context)

    return build


def _features(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return FusedFeatures(context.schema)


def _embedding(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    if block.kind == "wide":
        return FusedWide(reference)
    return FusedEmbedding(reference, block.dtype == "bf16", context.threads)


def _fully_connected(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    fused = FusedFullyConnected(reference, block.dtype, context.threads)
    check_sizes(fused.inputs, fused.outputs, block)
    return fused


def _split(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return FusedSplit(SplitFullyConnected(reference, block), block.dtype, context.threads)


def _interaction(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return FusedInteraction(reference, block.dtype, context.threads)


def _attention(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    return FusedAttention(reference, block.dtype, context.threads)


def _recurrent(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    cell = FusedAugru if block.kind == "augru" else FusedGru
    return cell(reference, block.dtype, context.threads)


_BY_ROLE: dict[str, tuple[Builder, tuple[str, ...]]] = {
    "features": (_features, ("fp32",)),
    "embedding": (_embedding, ("fp32", "bf16")),
    "fc": (_fully_connected, ("fp32", "bf16", "tf32")),
    "fc.split": (_split, ("fp32", "bf16", "tf32")),
    "interaction": (_interaction, ("fp32", "tf32")),
    "attention": (_attention, ("fp32", "bf16", "tf32")),
    "attention.split": (_attention, ("fp32", "bf16", "tf32")),  # the kernel takes its first layer apart in any case
    "recurrent": (_recurrent, ("fp32", "bf16", "tf32")),
}

BUILDERS: dict[tuple[str, str, str], Builder] = {
    (role, "fused", dtype): _on_cpu(builder) for role, (builder, dtypes) in _BY_ROLE.items() for dtype in dtypes
}

PASSES = {"program": lambda model, context: NativeProgram(model, context.threads)}
