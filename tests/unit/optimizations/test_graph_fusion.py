"""graph_fusion: the pass that it adds, and the plans that it does not go with."""

from __future__ import annotations

from typing import Any

import pytest

from optimizations.contract import PlanError
from optimizations.plan import first_pipeline, resolve
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)


def resolved(opts: dict[str, Any], device: str = "cpu") -> Any:
    return resolve(first_pipeline(DlrmConfig(), SCHEMA, "torch", device, "serve"), opts, frozenset())


def test_it_adds_one_pass_and_stays_in_the_closed_division() -> None:
    plan = resolved({"graph_fusion": {}})
    assert plan.pipeline.passes == ("compiled",) and plan.division == "closed"
    assert plan.steps[0].claims == ("passes.compiled",) and plan.steps[0].phase == "COMPILE"


@pytest.mark.parametrize("other", ["fusion", "int8", "micro_batch", "packed_weights", "stage"])
def test_who_it_excludes(other: str) -> None:
    with pytest.raises(PlanError, match="exclude each other"):
        resolved({"graph_fusion": {}, other: {}})


@pytest.mark.parametrize("other", ["dedup", "bf16", "tf32", "executor"])
def test_who_it_goes_with(other: str) -> None:
    assert "compiled" in resolved({"graph_fusion": {}, other: {}}).pipeline.passes


def test_it_is_of_the_cpu() -> None:
    with pytest.raises(PlanError, match="does not run on device=cuda"):
        resolved({"graph_fusion": {}}, device="cuda")
