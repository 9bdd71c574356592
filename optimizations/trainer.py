"""``python -m optimizations.trainer SPEC.json``: ``zoo.training`` with the layers and optimizers of fusion.

The mathematics are the same, for models and layers that fusion does not know too; without a C++ compiler the zoo trains
as it does by itself.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from optimizations.fusion.lower_torch_training import BUILDERS, OPTIMIZERS
from optimizations.fusion.spec import SPEC
from optimizations.kernels.loader import KernelsUnavailable, load_kernels
from optimizations.lowering import LoweringContext, LoweringError
from optimizations.plan import first_pipeline, resolve
from zoo.configs import ModelConfig
from zoo.models.ctr_model import CtrModel
from zoo.schema import Schema
from zoo.stand_ins import StandIns, packed_recurrences
from zoo.training import main


def native(model: CtrModel, config: ModelConfig, schema: Schema) -> StandIns:
    """See ``zoo.stand_ins.Substitute``: what this machine can build of a step on the native kernels."""
    by_itself = packed_recurrences(model, config, schema)
    try:
        load_kernels()
    except KernelsUnavailable:
        return by_itself
    pipeline = first_pipeline(config, schema, "torch", "cpu", "train")
    plan = resolve(pipeline, {SPEC.name: {}}, frozenset(), {SPEC.name: SPEC})
    context = LoweringContext(
        schema=schema,
        config=config,
        weights={},
        calibration=None,
        cache_dir=Path(),  # nothing that trains keeps what it builds
        device="cpu",
        threads=torch.get_num_threads(),
    )
    layers: dict[str, nn.Module] = dict(by_itself.layers)
    for block in plan.pipeline.blocks:
        builder = BUILDERS.get((block.role, block.impl, block.dtype))
        if builder is not None:
            with suppress(LoweringError):
                layers[block.path] = builder(model.get_submodule(block.path), block, context)
    return StandIns(layers, OPTIMIZERS["fused"])


if __name__ == "__main__":
    main(sys.argv[1], native)
