"""What is foreseen of a plan without its data, against the plan that is resolved with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from optimizations.contract import Pipeline, PlanError
from optimizations.foreseen import foreseen
from optimizations.plan import available, first_pipeline, resolve
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)
PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"bf16": {}},
    {"fusion": {}, "micro_batch": {"parts": 3}},
    {"fusion": {}, "stage": {}, "async_embedding": {}, "bf16": {}},
    {"smart_stage": {"depth": 3}},
)


@pytest.mark.parametrize("opts", PLANS, ids=str)
def test_steps_divisions_and_all_claims_but_those_of_blocks(opts: dict[str, Any]) -> None:
    plan = resolve(first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "train"), opts, frozenset())
    blocks = tuple(f"{block.path}." for block in plan.pipeline.blocks)
    resolved = [
        (step.name, step.division, tuple(claim for claim in step.claims if not claim.startswith(blocks)))
        for step in plan.steps
    ]
    found = foreseen("dlrm", "torch", "cpu", "train", opts)
    assert [(step.name, step.division, step.claims) for step in found] == resolved


def test_a_plug_in_that_needs_a_block_claims_nothing_yet() -> None:
    def first_block(pipeline: Pipeline, options: Any) -> tuple[str, ...]:
        return (f"{pipeline.blocks[0].path}.impl",)

    other = dataclasses.replace(available()["bf16"], name="other", claims=first_block)
    (step,) = foreseen("dlrm", "torch", "cpu", "train", {"other": {}}, {"other": other})
    assert (step.name, step.division, step.claims) == ("other", "open", ())


def test_names_and_options_are_refused() -> None:
    with pytest.raises(PlanError, match="no optimization 'bf61'"):
        foreseen("dlrm", "torch", "cpu", "train", {"bf61": {}})
    with pytest.raises(PlanError, match="parts must be 2 to 16"):
        foreseen("dlrm", "torch", "cpu", "train", {"micro_batch": {"parts": 1}})
