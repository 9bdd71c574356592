"""stage: features and lookups of the next query beside the dense compute of this one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from optimizations.executor.spec import COST_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """No options: the boundary lies between the roles features and embedding and all others."""


def claims(pipeline: Pipeline, options: StageOptions) -> tuple[str, ...]:
    """Whether a worker takes the next query before it has answered this one.

    Raises PlanError where queries are split or merged, or scheduled as a whole.
    """
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
    """Write ``stage``."""
    return dataclasses.replace(pipeline, dispatch=dataclasses.replace(pipeline.dispatch, stage=True))


SPEC = Optimization(
    name="stage",
    summary="features and lookups of the next query beside the dense compute of this one",
    phase=Phase.SERVING,
    scope="serve",
    division="closed",
    origin=("B3",),
    options=StageOptions,
    claims=claims,
    apply=apply,
    devices=("cpu",),
    score_tolerance=1e-5,
)
