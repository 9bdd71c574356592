"""fusion: one native kernel per block in place of a chain of framework operators."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """Which roles are fused; each can be switched off on its own."""

    embedding: bool = True
    features: bool = True
    fc: bool = True
    interaction: bool = True
    attention: bool = True
    recurrent: bool = True


def _chosen(pipeline: Pipeline, options: FusionOptions) -> tuple[Block, ...]:
    return tuple(block for block in pipeline.blocks if getattr(options, block.role) and block.impl != "fused")


def claims(pipeline: Pipeline, options: FusionOptions) -> tuple[str, ...]:
    """The ``impl`` slot of every block whose role is switched on."""
    return tuple(f"{block.path}.impl" for block in _chosen(pipeline, options))


def apply(pipeline: Pipeline, options: FusionOptions) -> Pipeline:
    """Write ``impl="fused"`` on the claimed blocks."""
    for block in _chosen(pipeline, options):
        pipeline = pipeline.with_block(block.path, impl="fused")
    return pipeline


SPEC = Optimization(
    name="fusion",
    summary="native fused kernels: features, embedding, fc, interaction, attention, GRU/AUGRU",
    phase=Phase.GRAPH,
    scope="serve",
    division="closed",
    origin=("A7", "A9", "A10", "A11", "A12", "A15", "B2", "B11"),
    options=FusionOptions,
    claims=claims,
    apply=apply,
    score_tolerance=1e-5,
)
