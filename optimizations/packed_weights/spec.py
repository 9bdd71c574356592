"""packed_weights: weights of fully connected layers in the layout of the library's product, rearranged once."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeightsOptions:
    """No options: every fully connected layer."""


def _chosen(pipeline: Pipeline) -> tuple[Block, ...]:
    return tuple(block for block in pipeline.blocks if block.role == "fc" and block.kind != "wide")


def claims(pipeline: Pipeline, options: PackedWeightsOptions) -> tuple[str, ...]:
    """The ``packed`` slot of every fully connected layer."""
    return tuple(f"{block.path}.packed" for block in _chosen(pipeline))


def apply(pipeline: Pipeline, options: PackedWeightsOptions) -> Pipeline:
    """Write ``packed=True`` on the claimed blocks."""
    for block in _chosen(pipeline):
        pipeline = pipeline.with_block(block.path, packed=True)
    return pipeline


SPEC = Optimization(
    name="packed_weights",
    summary="weights stay in the layout of oneDNN's product (fusion packs its own)",
    phase=Phase.COMPILE,
    scope="serve",
    division="closed",
    origin=("A14",),
    options=PackedWeightsOptions,
    claims=claims,
    apply=apply,
    conflicts=("fusion", "int8", "tf32"),
    devices=("cpu",),
)
