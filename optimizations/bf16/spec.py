"""bf16: weights, embedding rows and operands in bfloat16, sums in fp32."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Bf16Options:
    """Which roles run in bf16. The block that makes the logit (one output) and the wide part stay in fp32."""

    embedding: bool = True
    fc: bool = True
    attention: bool = True
    recurrent: bool = True


def _chosen(pipeline: Pipeline, options: Bf16Options) -> tuple[Block, ...]:
    return tuple(
        block
        for block in pipeline.blocks
        if getattr(options, block.role, False) and block.kind != "wide" and dict(block.shape).get("outputs") != 1
    )


def claims(pipeline: Pipeline, options: Bf16Options) -> tuple[str, ...]:
    """The ``dtype`` slot of every block whose role is switched on."""
    return tuple(f"{block.path}.dtype" for block in _chosen(pipeline, options))


def apply(pipeline: Pipeline, options: Bf16Options) -> Pipeline:
    """Write ``dtype="bf16"`` on the claimed blocks."""
    for block in _chosen(pipeline, options):
        pipeline = pipeline.with_block(block.path, dtype="bf16")
    return pipeline


def native(capabilities: frozenset[str]) -> bool:
    """True with AVX512_BF16 or AMX on the CPU, or on a CUDA device."""
    return bool(capabilities & {"avx512_bf16", "amx_bf16", "cuda"})


SPEC = Optimization(
    name="bf16",
    summary="weights, embedding rows and matrix operands in bfloat16, accumulated in fp32",
    phase=Phase.PRECISION,
    scope="serve",
    division="closed",
    origin=("A13", "B14"),
    options=Bf16Options,
    claims=claims,
    apply=apply,
    score_tolerance=4e-3,
    native=native,
)
