"""int8: fully connected layers multiply bytes; weights per output, inputs per channel on training rows and per row."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Options:
    """No options: every fully connected layer but the one that makes the logit (one output)."""


def _chosen(pipeline: Pipeline) -> tuple[Block, ...]:
    return tuple(b for b in pipeline.blocks if b.role == "fc" and dict(b.shape).get("outputs") != 1)


def claims(pipeline: Pipeline, options: Int8Options) -> tuple[str, ...]:
    """The ``dtype`` slot of every chosen block."""
    return tuple(f"{block.path}.dtype" for block in _chosen(pipeline))


def apply(pipeline: Pipeline, options: Int8Options) -> Pipeline:
    """Write ``dtype="int8"`` on the claimed blocks."""
    for block in _chosen(pipeline):
        pipeline = pipeline.with_block(block.path, dtype="int8")
    return pipeline


def native(capabilities: frozenset[str]) -> bool:
    """True where one instruction multiplies and adds four bytes: VNNI or AMX."""
    return bool(capabilities & {"avx512_vnni", "avx_vnni", "amx_int8"})


SPEC = Optimization(
    name="int8",
    summary="fully connected layers on bytes, calibrated on training rows (open division)",
    phase=Phase.PRECISION,
    scope="serve",
    division="open",
    origin=("A23",),
    options=Int8Options,
    claims=claims,
    apply=apply,
    devices=("cpu",),
    score_tolerance=5e-3,
    native=native,
)
