"""micro_batch: a batch cut into pipelined parts. A known name; its error says that it comes."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchOptions:
    """No options yet."""


def claims(pipeline: Pipeline, options: MicroBatchOptions) -> tuple[str, ...]:
    """Nothing: the resolver refuses the name before it asks."""
    return ()


def apply(pipeline: Pipeline, options: MicroBatchOptions) -> Pipeline:
    """The pipeline as it is."""
    return pipeline


SPEC = Optimization(
    name="micro_batch",
    summary="a batch cut into pipelined parts (comes)",
    phase=Phase.INPUT,
    scope="both",
    division="closed",
    origin=("B1",),
    options=MicroBatchOptions,
    claims=claims,
    apply=apply,
    coming="it comes with the pipelined serving and training loops",
)
