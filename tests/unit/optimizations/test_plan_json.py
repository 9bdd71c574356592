"""Plans and pipelines survive the trip to the system under test."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from optimizations.contract import Dispatch, Pipeline, Plan, PlanStep, Runtime, Training
from optimizations.plan import pipeline_from_json, pipeline_to_json, plan_from_json, plan_to_json
from zoo.blueprint import Block

names = st.text(min_size=1, max_size=8)
blocks = st.builds(
    Block,
    path=names,
    role=st.sampled_from(["features", "embedding", "fc", "attention", "recurrent", "interaction"]),
    kind=names,
    shape=st.lists(st.tuples(names, st.integers(0, 9999)), max_size=3).map(tuple),
    side=st.sampled_from(["user", "item", "mixed"]),
    impl=names,
    dtype=names,
    packed=st.booleans(),
    hot_mb=st.floats(0, 1e6),
    hot_order=st.sampled_from(["row", "frequency"]),
    user_columns=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=2).map(tuple),
    split=st.booleans(),
)
runtimes = st.builds(
    Runtime,
    threads=st.integers(0, 64),
    workers=st.integers(1, 64),
    allocator=names,
    environment=st.lists(st.tuples(names, names), max_size=2).map(tuple),
)
pipelines = st.builds(
    Pipeline,
    model=names,
    backend=names,
    device=names,
    scope=st.sampled_from(["serve", "train", "both"]),
    blocks=st.lists(blocks, max_size=3).map(tuple),
    expand=st.sampled_from(["first", "late"]),
    passes=st.lists(names, max_size=2).map(tuple),
    runtime=runtimes,
    dispatch=st.builds(
        Dispatch,
        split=st.integers(0, 100),
        batch=st.integers(1, 9),
        wait_ms=st.floats(0, 10),
        parts=st.integers(1, 16),
        stage=st.booleans(),
    ),
    train=st.none()
    | st.builds(
        Training,
        parts=st.integers(1, 16),
        prefetch=st.integers(0, 9),
        prefetch_threads=st.integers(0, 9),
        optimizer=names,
        ranks=st.integers(1, 16),
    ),
)
steps = st.builds(
    PlanStep,
    name=names,
    phase=names,
    options=st.dictionaries(names, st.booleans() | st.integers() | names | st.lists(st.integers(), max_size=2)),
    claims=st.lists(names, max_size=3).map(tuple),
    division=st.sampled_from(["closed", "open"]),
    emulated=st.booleans(),
    score_tolerance=st.floats(0, 1),
)


@given(pipelines)
def test_a_pipeline_comes_back_equal(pipeline: Pipeline) -> None:
    assert pipeline_from_json(pipeline_to_json(pipeline)) == pipeline


@given(st.builds(Plan, steps=st.lists(steps, max_size=3).map(tuple), pipeline=pipelines))
def test_a_plan_comes_back_equal(plan: Plan) -> None:
    text = plan_to_json(plan)
    assert plan_from_json(text) == plan
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
