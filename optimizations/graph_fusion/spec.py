"""graph_fusion: the framework's own compiler joins chains of operators of the model's graph (torch.compile)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline

COMPILED = "compiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFusionOptions:
    """No options: the compiler chooses what it joins."""


def claims(pipeline: Pipeline, options: GraphFusionOptions) -> tuple[str, ...]:
    """The pass over the model with all of its blocks in place."""
    return (f"passes.{COMPILED}",)


def apply(pipeline: Pipeline, options: GraphFusionOptions) -> Pipeline:
    """Add the pass."""
    return dataclasses.replace(pipeline, passes=(*pipeline.passes, COMPILED))


SPEC = Optimization(
    name="graph_fusion",
    summary="torch.compile: the framework's compiler joins operators (fusion has kernels of its own)",
    phase=Phase.COMPILE,
    scope="serve",
    division="closed",
    origin=("B5",),
    options=GraphFusionOptions,
    claims=claims,
    apply=apply,
    # fusion and int8 run kernels that the compiler cannot look into, packed_weights hides its weights from it; a plan
    # in two steps answers no query as a whole.
    conflicts=("fusion", "int8", "micro_batch", "packed_weights", "stage"),
    devices=("cpu",),
    score_tolerance=1e-5,
)
