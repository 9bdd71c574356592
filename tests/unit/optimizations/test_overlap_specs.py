"""micro_batch and stage: what they write, and the plans that they refuse."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from optimizations.contract import Dispatch, Pipeline, Plan, PlanError, Training
from optimizations.plan import available, first_pipeline, plan_from_json, plan_to_json, resolve
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)


def pipeline(**changes: Any) -> Pipeline:
    return dataclasses.replace(first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve"), **changes)


def plan(opts: dict[str, Any], **changes: Any) -> Plan:
    return resolve(pipeline(**changes), opts, frozenset())


def test_they_write_how_queries_are_served_and_nothing_else() -> None:
    whole = pipeline()
    parts, staged = plan({"micro_batch": {}}), plan({"stage": {}})
    assert parts.pipeline == dataclasses.replace(whole, dispatch=Dispatch(parts=2))
    assert staged.pipeline == dataclasses.replace(whole, dispatch=Dispatch(stage=True))
    assert [step.claims for step in (*parts.steps, *staged.steps)] == [("dispatch.parts",), ("dispatch.stage",)]
    assert parts.division == staged.division == "closed"


def test_they_compose_with_each_other_and_with_every_kind_of_optimization() -> None:
    opts = {"stage": {}, "fusion": {}, "micro_batch": {"parts": 4}, "dedup": {}, "bf16": {}, "executor": {"workers": 3}}
    both = plan(opts)
    assert both.pipeline.dispatch == Dispatch(parts=4, stage=True) and both.pipeline.runtime.workers == 3
    assert plan_from_json(plan_to_json(both)) == both


@pytest.mark.parametrize("parts", [-1, 0, 1, 17])
def test_parts_are_bounded(parts: int) -> None:
    with pytest.raises(PlanError, match=f"opt.micro_batch: parts must be 2 to 16, got {parts}"):
        plan({"micro_batch": {"parts": parts}})


@pytest.mark.parametrize("dispatch", [Dispatch(batch=2), Dispatch(split=16)])
def test_a_stage_refuses_queries_that_are_split_or_merged(dispatch: Dispatch) -> None:
    with pytest.raises(PlanError, match=r"serves queries whole and one by one.*keep one of the two"):
        plan({"stage": {}}, dispatch=dispatch)
    assert plan({"micro_batch": {}}, dispatch=dispatch).pipeline.dispatch == dataclasses.replace(dispatch, parts=2)


@pytest.mark.parametrize("name", ["micro_batch", "stage"])
def test_devices_are_named(name: str) -> None:
    assert available()[name].coming is None
    with pytest.raises(PlanError, match="does not run on device=cuda"):
        plan({name: {}}, device="cuda")


def trained(opts: dict[str, Any]) -> Plan:
    return resolve(first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "train"), opts, frozenset())


def test_in_training_they_write_how_a_step_is_taken_and_nothing_else() -> None:
    plain = trained({}).pipeline
    assert plain.train == Training()
    both = trained({"stage": {"depth": 5, "threads": 2}, "micro_batch": {"parts": 3}})
    assert both.pipeline == dataclasses.replace(plain, train=Training(parts=3, prefetch=5, prefetch_threads=2))
    claims = {step.name: step.claims for step in both.steps}
    assert claims == {"micro_batch": ("train.parts",), "stage": ("train.prefetch", "train.prefetch_threads")}
    assert plan_from_json(plan_to_json(both)) == both
    assert trained({"stage": {}}).pipeline.train == Training(prefetch=2, prefetch_threads=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": -1}, "depth must be 0 (its default) to 64, got -1"),
        ({"threads": 65}, "threads must be 0 (its default) to 64, got 65"),
        ({"threads": 3}, "threads=3 with depth=2"),
        ({"depth": 1, "threads": 2}, "threads=2 with depth=1"),
    ],
)
def test_what_is_prepared_ahead_is_bounded(options: dict[str, int], said: str) -> None:
    with pytest.raises(PlanError, match=re.escape(said)):
        trained({"stage": options})


def test_a_query_is_prepared_no_further_ahead() -> None:
    with pytest.raises(PlanError, match=r"depth=4 and threads=0 are of training.*scope=train"):
        plan({"stage": {"depth": 4}})
