"""graph_fusion on PyTorch: a pass, compiled before the first query; without a C++ compiler the model stays eager."""

from __future__ import annotations

from typing import Any

from optimizations.graph_fusion.compiled_model import CompiledModel
from optimizations.kernels.loader import find_compiler
from optimizations.lowering import LoweringContext, LoweringError
from zoo.blueprint import describe

VARYING = {"gru": (0, 1), "augru": (0,)}
"""Dimensions of a recurrent block's result whose sizes vary (``zoo.layers.tensors``), by its kind."""


def _compiled(model: Any, context: LoweringContext) -> Any:
    find_compiler()  # raises KernelsUnavailable, which is on record with its reason
    if context.calibration is None:
        raise LoweringError("torch.compile needs rows to follow the model with, and the plan has no calibration rows")
    blocks = describe(context.config, context.schema)
    recurrent = {block.path: VARYING[block.kind] for block in blocks if block.role == "recurrent"}
    return CompiledModel(model, recurrent, context.calibration).predict


PASSES = {"compiled": _compiled}
