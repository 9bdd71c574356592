"""executor: what each mode writes, what its zeros become on a machine, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizations.contract import PlanError, Runtime
from optimizations.plan import first_pipeline, resolve
from optimizations.plan_json import plan_from_json, plan_to_json
from zoo.configs import WdlConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="pointwise",
    dense=(DenseField(name="I1", side="item"),),
    ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),),
)


def plan(opts: dict[str, Any], backend: str = "torch") -> Any:
    return resolve(first_pipeline(WdlConfig(), SCHEMA, backend, "cpu", "serve"), opts, frozenset())


def counts(cores: int, **options: Any) -> tuple[int, int]:
    """(workers, threads) of ``opt=[fusion,executor]`` on so many cores."""
    runtime = plan({"fusion": {}, "executor": options}).pipeline.runtime.on(cores)
    return runtime.workers, runtime.threads


def refusal(options: dict[str, Any], backend: str = "torch", **more: Any) -> str:
    with pytest.raises(PlanError) as caught:
        plan({"executor": options, **more}, backend)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("mode", "on_one", "on_two", "on_63"),
    [
        ("inline", (1, 1), (2, 1), (63, 1)),
        ("parallel", (1, 1), (1, 2), (1, 63)),
        ("cost_model", (1, 2), (1, 2), (31, 2)),
    ],
)
def test_the_modes_fill_the_cores(
    mode: str, on_one: tuple[int, int], on_two: tuple[int, int], on_63: tuple[int, int]
) -> None:
    assert [counts(cores, mode=mode) for cores in (1, 2, 63)] == [on_one, on_two, on_63]


def test_given_counts_stay() -> None:
    assert counts(8, workers=3) == (3, 1)
    assert counts(8, threads=2) == (4, 2)
    assert counts(8, workers=3, threads=5) == (3, 5)
    assert counts(8, mode="parallel", threads=4) == (1, 4)
    assert counts(8, mode="cost_model", workers=2, threads=3) == (2, 3)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100))
def test_zeros_never_take_more_than_the_cores(workers: int, threads: int, cores: int) -> None:
    runtime = Runtime(workers=workers, threads=threads).on(cores)
    assert runtime.workers == workers if workers else runtime.workers * runtime.threads <= max(cores, runtime.threads)
    assert runtime.threads == (threads or cores)
    assert runtime.on(cores + 1) == runtime


def test_auto_leaves_to_the_machine_what_is_not_given() -> None:
    for options, undecided in (({}, True), ({"workers": 2}, True), ({"threads": 2}, True)):
        runtime = plan({"executor": {"mode": "auto", **options}}).pipeline.runtime
        assert runtime.undecided is undecided
        assert (runtime.workers, runtime.threads) == (options.get("workers", 0), options.get("threads", 0))
    assert not plan({"executor": {}}).pipeline.runtime.undecided
    assert not Runtime(executor="auto", workers=2, threads=1).undecided


def test_a_plan_says_its_mode_and_claims_it() -> None:
    for mode in ("inline", "parallel", "auto"):
        made = plan({"executor": {"mode": mode}})
        assert made.pipeline.runtime.executor == mode and made.pipeline.passes == ()
        assert made.steps[0].claims == ("runtime.executor", "runtime.threads", "runtime.workers")
        assert plan_from_json(plan_to_json(made)) == made
    scheduled = plan({"executor": {"mode": "cost_model"}, "fusion": {}})
    assert scheduled.pipeline.passes == ("cost_model", "program")
    assert "passes.cost_model" in scheduled.steps[-1].claims


def test_an_unknown_mode_gets_the_nearest_one_and_the_list() -> None:
    assert "(did you mean 'inline'?)" in refusal({"mode": "inlin"})
    message = refusal({"mode": "gpu"})
    assert "'auto', 'cost_model', 'inline', 'inter_op', 'parallel'" in message and "did you mean" not in message


def test_cuda_graph_names_its_device() -> None:
    message = refusal({"mode": "cuda_graph"})
    assert "device=cuda" in message and "not implemented yet" in message


def test_counts_that_a_mode_excludes() -> None:
    assert "one query at a time" in refusal({"mode": "parallel", "workers": 2})
    for mode in ("cost_model", "inter_op"):
        assert f"mode={mode!r}" in refusal({"mode": mode, "threads": 1})
        assert "needs 2 threads" in refusal({"mode": mode, "threads": 1})
    assert "nothing to choose" in refusal({"mode": "auto", "workers": 2, "threads": 1})
    assert "threads=-1" in refusal({"threads": -1})


def test_a_mode_that_a_backend_lacks_names_the_backends_that_have_it() -> None:
    message = refusal({"mode": "cost_model"}, "onnxruntime")
    assert (
        "'executor' (mode=cost_model, workers=0, threads=0, onednn=True) cannot be lowered on backend=onnxruntime"
        in message
    )
    assert "it can on: torch; change its options, or say backend=torch" in message
    for backend in ("torch", "openvino"):
        assert "it can on: onnxruntime, tensorflow" in refusal({"mode": "inter_op"}, backend)
        assert "it can on: tensorflow; change its options" in refusal({"onednn": False}, backend)


def test_onednn_is_switched_off_before_tensorflow_is_loaded() -> None:
    made = plan({"executor": {"onednn": False}}, "tensorflow")
    assert made.pipeline.runtime.environment == (("TF_ENABLE_ONEDNN_OPTS", "0"),)
    assert "runtime.environment.TF_ENABLE_ONEDNN_OPTS" in made.steps[0].claims
    both = plan({"executor": {"onednn": False}, "allocator": {}}, "tensorflow").pipeline.runtime.environment
    assert set(made.pipeline.runtime.environment) < set(both)
    assert plan({"executor": {}}, "tensorflow").pipeline.runtime.environment == ()
    assert "leave one of them out" in refusal({"mode": "cost_model", "onednn": False})


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "tensorflow"])
def test_the_modes_of_a_graph_runtime_write_the_same_slots(backend: str) -> None:
    for mode in ("inline", "parallel", "auto"):
        assert plan({"executor": {"mode": mode}}, backend).steps == plan({"executor": {"mode": mode}}).steps
    if backend != "openvino":
        runtime = plan({"executor": {"mode": "inter_op"}}, backend).pipeline.runtime
        assert (runtime.executor, runtime.workers, runtime.on(4).threads) == ("inter_op", 1, 4)


def test_the_cost_model_needs_a_program_in_one_step() -> None:
    assert "add fusion" in refusal({"mode": "cost_model"})
    assert "add fusion" in refusal({"mode": "cost_model"}, fusion={"fc": False})
    for name in ("stage", "micro_batch"):
        assert f"{name!r}" in refusal({"mode": "cost_model"}, fusion={}, **{name: {}})
        assert plan({"executor": {}, "fusion": {}, name: {}}).pipeline.dispatch.in_steps


def trained(options: dict[str, Any]) -> Any:
    return resolve(first_pipeline(WdlConfig(), SCHEMA, "torch", "cpu", "train"), {"executor": options}, frozenset())


def test_in_training_it_writes_mode_and_threads() -> None:
    plan = trained({"mode": "inline"})
    assert (plan.pipeline.runtime, plan.steps[0].claims) == (
        Runtime(executor="inline", threads=1),
        ("runtime.executor", "runtime.threads"),
    )
    assert trained({"mode": "parallel", "threads": 3}).pipeline.runtime == Runtime(executor="parallel", threads=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "auto"}, "mode='auto' schedules queries, and scope=train has none"),
        ({"mode": "cost_model"}, "in training there are 'inline' and 'parallel'"),
        ({"workers": 2}, "workers=2 is how many queries are answered at a time"),
    ],
)
def test_training_refuses_what_is_of_queries(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        trained(options)
