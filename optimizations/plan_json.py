"""Plans and pipelines as JSON: how the referee hands them to the system under test, and how a record keeps them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from optimizations.contract import Dispatch, Pipeline, Plan, PlanStep, Runtime, Training
from zoo.blueprint import Block


def pipeline_to_json(pipeline: Pipeline) -> str:
    """Canonical JSON of a pipeline: sorted keys, no blanks."""
    return _dump(dataclasses.asdict(pipeline))


def pipeline_from_json(text: str) -> Pipeline:
    """Inverse of ``pipeline_to_json``."""
    return _pipeline(json.loads(text))


def plan_to_json(plan: Plan) -> str:
    """Canonical JSON of a plan: its steps and its pipeline."""
    return _dump(dataclasses.asdict(plan))


def plan_from_json(text: str) -> Plan:
    """Inverse of ``plan_to_json``."""
    data: dict[str, Any] = json.loads(text)
    steps = tuple(PlanStep(**{**step, "claims": tuple(step["claims"])}) for step in data["steps"])
    return Plan(steps=steps, pipeline=_pipeline(data["pipeline"]))


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _pipeline(data: dict[str, Any]) -> Pipeline:
    runtime = {**data["runtime"], "environment": tuple((k, v) for k, v in data["runtime"]["environment"])}
    return Pipeline(
        **{
            **data,
            "blocks": tuple(_block(block) for block in data["blocks"]),
            "passes": tuple(data["passes"]),
            "runtime": Runtime(**runtime),
            "dispatch": Dispatch(**data["dispatch"]),
            "train": Training(**data["train"]) if data["train"] else None,
        }
    )


def _block(data: dict[str, Any]) -> Block:
    shape = tuple((name, size) for name, size in data["shape"])
    user_columns = tuple((first, end) for first, end in data["user_columns"])
    return Block(**{**data, "shape": shape, "user_columns": user_columns})
