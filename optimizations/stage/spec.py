"""stage: features and lookup of the next query overlapped with this one's compute. A known name; its error says so."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """No options yet."""


def claims(pipeline: Pipeline, options: StageOptions) -> tuple[str, ...]:
    """Nothing: the resolver refuses the name before it asks."""
    return ()


def apply(pipeline: Pipeline, options: StageOptions) -> Pipeline:
    """The pipeline as it is."""
    return pipeline


SPEC = Optimization(
    name="stage",
    summary="features and lookup of the next query overlapped with the compute of this one (comes)",
    phase=Phase.INPUT,
    scope="both",
    division="closed",
    origin=("B3",),
    options=StageOptions,
    claims=claims,
    apply=apply,
    coming="it comes with the pipelined serving and training loops",
)
