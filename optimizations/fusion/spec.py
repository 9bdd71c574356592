"""fusion: one native kernel per block in place of a chain of framework operators."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block

PROGRAM = "program"
TRAINED = ("features", "embedding", "interaction", "attention", "recurrent")
"""Roles that are fused in training, too."""
TRAINED_LAYERS = ("auxiliary", "dice")
"""Kinds of the role fc that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """Which roles are fused; each can be switched off on its own. program: with all of them on, a query is one native
    call from raw columns to scores. In training, of the fully connected layers those with Dice and DIEN's auxiliary net
    are, and with the tables the optimizers."""

    embedding: bool = True
    features: bool = True
    fc: bool = True
    interaction: bool = True
    attention: bool = True
    recurrent: bool = True
    program: bool = True

    @property
    def whole(self) -> bool:
        """Whether one program runs the model."""
        return all(getattr(self, field.name) for field in dataclasses.fields(self))


def _trained(block: Block) -> bool:
    return block.kind in TRAINED_LAYERS if block.role == "fc" else block.role in TRAINED


def _chosen(pipeline: Pipeline, options: FusionOptions) -> tuple[Block, ...]:
    blocks = (block for block in pipeline.blocks if pipeline.train is None or _trained(block))
    return tuple(block for block in blocks if getattr(options, block.role) and block.impl != "fused")


def claims(pipeline: Pipeline, options: FusionOptions) -> tuple[str, ...]:
    """The ``impl`` slot of every block whose role is switched on, and the program that joins them, or the optimizers of
    the tables."""
    blocks = tuple(f"{block.path}.impl" for block in _chosen(pipeline, options))
    if pipeline.train is not None:
        return (*blocks, "train.optimizer") if options.embedding else blocks
    return (*blocks, f"passes.{PROGRAM}") if options.whole else blocks


def apply(pipeline: Pipeline, options: FusionOptions) -> Pipeline:
    """Write ``impl="fused"`` on the claimed blocks."""
    for block in _chosen(pipeline, options):
        pipeline = pipeline.with_block(block.path, impl="fused")
    if pipeline.train is not None:
        return pipeline.with_training(optimizer="fused") if options.embedding else pipeline
    return dataclasses.replace(pipeline, passes=(*pipeline.passes, PROGRAM)) if options.whole else pipeline


SPEC = Optimization(
    name="fusion",
    summary="native fused kernels: a query in one call; in training all but the large products, optimizers included",
    phase=Phase.GRAPH,
    scope="both",
    division="closed",
    origin=("A7", "A9", "A10", "A11", "A12", "A15", "B2", "B11"),
    options=FusionOptions,
    claims=claims,
    apply=apply,
    score_tolerance=1e-5,
)
