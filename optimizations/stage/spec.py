"""stage: features and lookups of the next query, or inputs of the next training steps, beside this one's compute."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from optimizations.executor.spec import COST_MODEL

DEPTH, THREADS = 2, 1
"""In training, unless the options say otherwise."""
MOST_AHEAD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """Of training; a served query has neither. depth: how many steps at most are prepared ahead. threads: that prepare
    them. 0 for either: 2 steps, 1 thread."""

    depth: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a count outside of 0 to 64, and for threads that could not all work."""
        for name in ("depth", "threads"):
            if not 0 <= getattr(self, name) <= MOST_AHEAD:
                raise ValueError(f"{name} must be 0 (its default) to {MOST_AHEAD}, got {getattr(self, name)}")
        if self.threads > (self.depth or DEPTH):
            raise ValueError(
                f"threads={self.threads} with depth={self.depth or DEPTH}: each thread prepares a step of its own, so "
                "that no more than depth have work; raise depth or lower threads"
            )


def claims(pipeline: Pipeline, options: StageOptions) -> tuple[str, ...]:
    """Whether a worker takes the next query before it has answered this one; how far ahead a step's input is prepared.

    Raises PlanError where queries are split or merged, or scheduled as a whole, and for options that only training has.
    """
    if pipeline.train is not None:
        return ("train.prefetch", "train.prefetch_threads")
    if options != StageOptions():
        raise PlanError(
            f"opt.stage: depth={options.depth} and threads={options.threads} are of training, and a worker that serves "
            "looks up one query ahead: leave them out, or say scope=train"
        )
    if pipeline.dispatch.split or pipeline.dispatch.batch > 1:
        raise PlanError(
            "opt: 'stage' serves queries whole and one by one, and this plan splits or merges them (dispatch.split="
            f"{pipeline.dispatch.split}, dispatch.batch={pipeline.dispatch.batch}): it would take queries away from "
            "the batch that they could have joined, and the queueing twin knows no such system; keep one of the two"
        )
    if COST_MODEL in pipeline.passes:
        raise PlanError(
            "opt: 'stage' answers a query in two steps, and executor's mode=cost_model schedules it as a whole: "
            "keep one of the two, or say opt.executor.mode=inline"
        )
    return ("dispatch.stage",)


def apply(pipeline: Pipeline, options: StageOptions) -> Pipeline:
    """Write ``stage``, or how far ahead and by how many threads."""
    if pipeline.train is not None:
        return pipeline.with_training(prefetch=options.depth or DEPTH, prefetch_threads=options.threads or THREADS)
    return dataclasses.replace(pipeline, dispatch=dataclasses.replace(pipeline.dispatch, stage=True))


SPEC = Optimization(
    name="stage",
    summary="features and lookups of the next query, or inputs of the next training steps, beside this one's compute",
    phase=Phase.SERVING,
    scope="both",
    division="closed",
    origin=("B3",),
    options=StageOptions,
    claims=claims,
    apply=apply,
    devices=("cpu",),
    score_tolerance=1e-5,
)
