"""fusion in training on PyTorch: a step on the native kernels."""

from __future__ import annotations

from torch import nn

from optimizations.fusion.row_optimizers import fused_optimizers
from optimizations.fusion.trained_attention import trained_attention
from optimizations.fusion.trained_auxiliary import trained_auxiliary
from optimizations.fusion.trained_dense import trained_relu
from optimizations.fusion.trained_dice import trained_dice
from optimizations.fusion.trained_features import TrainedFeatures
from optimizations.fusion.trained_interaction import trained_interaction
from optimizations.fusion.trained_recurrence import TrainedAugru, TrainedGru
from optimizations.fusion.trained_tables import TrainedTables, TrainedWide
from optimizations.kernels.openmp import share_openmp_threads
from optimizations.lowering import LoweringContext
from zoo.blueprint import Block


def _features(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    share_openmp_threads()
    return TrainedFeatures(reference)


def _embedding(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    share_openmp_threads()
    return TrainedWide(reference) if block.kind == "wide" else TrainedTables(reference)


def _interaction(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    share_openmp_threads()
    return trained_interaction(reference)


def _attention(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    share_openmp_threads()
    return trained_attention(reference)


def _recurrent(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    share_openmp_threads()
    return TrainedAugru(reference) if block.kind == "augru" else TrainedGru(reference)


def _fully_connected(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    share_openmp_threads()
    return LAYERS[block.kind](reference)


LAYERS = {"auxiliary": trained_auxiliary, "dice": trained_dice, "relu": trained_relu}

BUILDERS = {
    ("features", "fused", "fp32"): _features,
    ("fc", "fused", "fp32"): _fully_connected,
    ("embedding", "fused", "fp32"): _embedding,
    ("interaction", "fused", "fp32"): _interaction,
    ("attention", "fused", "fp32"): _attention,
    ("recurrent", "fused", "fp32"): _recurrent,
}

OPTIMIZERS = {"fused": fused_optimizers}
