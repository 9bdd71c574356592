"""fusion in training on PyTorch: tables, attention, recurrences and the tables' optimizers on the native kernels."""

from __future__ import annotations

from torch import nn

from optimizations.fusion.row_optimizers import fused_optimizers
from optimizations.fusion.trained_attention import trained_attention
from optimizations.fusion.trained_recurrence import TrainedAugru, TrainedGru
from optimizations.fusion.trained_tables import TrainedTables, TrainedWide
from optimizations.kernels.loader import load_kernels
from optimizations.lowering import LoweringContext
from zoo.blueprint import Block


def _embedding(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    load_kernels()
    return TrainedWide(reference) if block.kind == "wide" else TrainedTables(reference)


def _attention(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    load_kernels()
    return trained_attention(reference)


def _recurrent(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    load_kernels()
    return TrainedAugru(reference) if block.kind == "augru" else TrainedGru(reference)


BUILDERS = {
    ("embedding", "fused", "fp32"): _embedding,
    ("attention", "fused", "fp32"): _attention,
    ("recurrent", "fused", "fp32"): _recurrent,
}

OPTIMIZERS = {"fused": fused_optimizers}
