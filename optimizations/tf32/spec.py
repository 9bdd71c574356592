"""tf32: matrix operands with 10 mantissa bits, as NVIDIA's TensorFloat-32; on a CPU by rounding them.

In training it is the products of fully connected layers, forward and backward.
"""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.bf16.spec import rounds_in_training
from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Tf32Options:
    """Which roles multiply in tf32; in training fully connected layers alone (``rounds_in_training``)."""

    fc: bool = True
    interaction: bool = True
    attention: bool = True
    recurrent: bool = True


def _chosen(pipeline: Pipeline, options: Tf32Options) -> tuple[Block, ...]:
    training = pipeline.train is not None
    asked = (block for block in pipeline.blocks if getattr(options, block.role, False))
    return tuple(block for block in asked if not training or rounds_in_training(block))


def claims(pipeline: Pipeline, options: Tf32Options) -> tuple[str, ...]:
    """The ``dtype`` slot of every block whose role is switched on."""
    return tuple(f"{block.path}.dtype" for block in _chosen(pipeline, options))


def apply(pipeline: Pipeline, options: Tf32Options) -> Pipeline:
    """Write ``dtype="tf32"`` on the claimed blocks."""
    for block in _chosen(pipeline, options):
        pipeline = pipeline.with_block(block.path, dtype="tf32")
    return pipeline


def native(capabilities: frozenset[str]) -> bool:
    """True on a CUDA device only: no CPU multiplies in tf32."""
    return "cuda" in capabilities


SPEC = Optimization(
    name="tf32",
    summary="matrix operands rounded to 10 mantissa bits (TensorFloat-32); emulated on a CPU",
    phase=Phase.PRECISION,
    scope="both",
    division="closed",
    division_in_training="open",
    origin=("B12",),
    options=Tf32Options,
    claims=claims,
    apply=apply,
    score_tolerance=4e-3,
    native=native,
)
