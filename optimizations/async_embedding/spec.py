"""async_embedding: a training step's lookups beside the step before, in tables that have missed that one's update."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline

LAG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncEmbeddingOptions:
    """None: rows miss one update, and no more."""


def claims(pipeline: Pipeline, options: AsyncEmbeddingOptions) -> tuple[str, ...]:
    """How many updates the rows of a step may have missed."""
    return ("train.lookup_lag",)


def apply(pipeline: Pipeline, options: AsyncEmbeddingOptions) -> Pipeline:
    """Write it."""
    return pipeline.with_training(lookup_lag=LAG)


SPEC = Optimization(
    name="async_embedding",
    summary="a training step's lookups beside the step before, whose update they miss: needs stage, other mathematics",
    phase=Phase.SERVING,
    scope="train",
    division="open",
    origin=("B4",),
    options=AsyncEmbeddingOptions,
    claims=claims,
    apply=apply,
    requires=("stage",),
    conflicts=("smart_stage", "micro_batch"),
    devices=("cpu",),
)
