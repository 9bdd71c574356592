"""bf16: weights, embedding rows and operands in bfloat16, sums in fp32.

On TensorFlow it is oneDNN's automatic mixed precision: every matrix product of the graph, and no table. In training it
is the products of fully connected layers, over parameters in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from optimizations.fusion.spec import XLA
from zoo.blueprint import Block

BACKENDS = ("torch", "tensorflow")
MULTIPLYING = ("fc", "interaction", "attention", "recurrent")
"""Roles with matrix products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bf16Options:
    """Which roles run in bf16. The block that makes the logit (one output) and the wide part stay in fp32; in training
    all do but fully connected layers, DIEN's auxiliary net not among them."""

    embedding: bool = True
    fc: bool = True
    attention: bool = True
    recurrent: bool = True


def rounds_in_training(block: Block) -> bool:
    """Whether a block is trained with rounded operands: a fully connected layer, but for the one that makes the logit
    and for DIEN's auxiliary net."""
    return block.role == "fc" and block.kind != "auxiliary" and dict(block.shape).get("outputs") != 1


def _chosen(pipeline: Pipeline, options: Bf16Options) -> tuple[Block, ...]:
    if pipeline.backend == "tensorflow":
        return tuple(block for block in pipeline.blocks if block.role in MULTIPLYING)
    training = pipeline.train is not None
    return tuple(
        block
        for block in pipeline.blocks
        if getattr(options, block.role, False)
        and block.kind != "wide"
        and dict(block.shape).get("outputs") != 1
        and (not training or rounds_in_training(block))
    )


def claims(pipeline: Pipeline, options: Bf16Options) -> tuple[str, ...]:
    """The ``dtype`` slot of every block whose role is switched on. Raises PlanError where XLA compiles the blocks."""
    if XLA in pipeline.passes:
        raise PlanError(
            "opt.bf16: TensorFlow's mixed precision does not reach into what XLA has compiled: leave opt.fusion.xla "
            "or bf16 out"
        )
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
    scope="both",
    division="closed",
    division_in_training="open",
    origin=("A13", "B14"),
    options=Bf16Options,
    claims=claims,
    apply=apply,
    backends=BACKENDS,
    narrowed=lambda options: BACKENDS if options == Bf16Options() else ("torch",),
    score_tolerance=1e-2,
    native=native,
)
