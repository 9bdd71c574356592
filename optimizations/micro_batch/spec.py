"""micro_batch: a query, or a batch of training, in parts whose work overlaps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from optimizations.executor.spec import COST_MODEL

MOST_PARTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchOptions:
    """parts: of equal size, into which a query or a batch is cut; a smaller one has a part per sample."""

    parts: int = 2

    def __post_init__(self) -> None:
        """Raises ValueError outside of 2 to 16 parts."""
        if not 2 <= self.parts <= MOST_PARTS:
            raise ValueError(
                f"parts must be 2 to {MOST_PARTS}, got {self.parts}; for queries and batches as a whole, leave it out"
            )


def claims(pipeline: Pipeline, options: MicroBatchOptions) -> tuple[str, ...]:
    """How a worker computes a query, or a step its gradients.

    Raises PlanError where a query is scheduled as a whole.
    """
    if pipeline.train is not None:
        return ("train.parts",)
    if COST_MODEL in pipeline.passes:
        raise PlanError(
            "opt: 'micro_batch' answers a query in two steps, and executor's mode=cost_model schedules it as a whole: "
            "keep one of the two, or say opt.executor.mode=inline"
        )
    return ("dispatch.parts",)


def apply(pipeline: Pipeline, options: MicroBatchOptions) -> Pipeline:
    """Write the number of parts."""
    if pipeline.train is not None:
        return pipeline.with_training(parts=options.parts)
    return dataclasses.replace(pipeline, dispatch=dataclasses.replace(pipeline.dispatch, parts=options.parts))


SPEC = Optimization(
    name="micro_batch",
    summary="a query in pipelined parts, lookups beside compute; in training a batch, its gradients made side by side",
    phase=Phase.SERVING,
    scope="both",
    division="closed",
    origin=("B1",),
    options=MicroBatchOptions,
    claims=claims,
    apply=apply,
    devices=("cpu",),
    score_tolerance=1e-5,
)
