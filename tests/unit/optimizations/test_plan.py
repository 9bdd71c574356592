"""The resolver: what it accepts, in which order, and what each refusal says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from optimizations.executor.spec import ExecutorOptions
from optimizations.fusion.spec import FusionOptions
from optimizations.plan import available, check_fits, first_pipeline, resolve
from optimizations.slots import changed_slots
from zoo.configs import DienConfig, DlrmConfig, WdlConfig
from zoo.schema import DenseField, HistoryField, IdField, Schema

SEQUENCE = Schema(
    name="sequence",
    ids=(IdField(name="item", side="item", column=0, table="item", rows=10),),
    history=(HistoryField(name="hist_item", target="item", table="item", rows=10),),
)
POINTWISE = Schema(
    name="pointwise",
    dense=(DenseField(name="I1", side="item"),),
    ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),),
)
NOTHING: frozenset[str] = frozenset()


def dien(**changes: Any) -> Pipeline:
    return dataclasses.replace(first_pipeline(DienConfig(), SEQUENCE, "torch", "cpu", "serve"), **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    level: int = 1
    share: float = 0.5


def optimization(name: str, slot: str = "expand", **fields: Any) -> Optimization:
    """A plug-in that writes ``slot`` ("expand" or "<path>.packed")."""

    def apply(pipeline: Pipeline, options: Options) -> Pipeline:
        if slot == "expand":
            return dataclasses.replace(pipeline, expand="late")
        return pipeline.with_block(slot.rpartition(".")[0], packed=True)

    given = {"phase": Phase.GRAPH, "scope": "serve", "division": "closed", "claims": lambda p, o: (slot,)} | fields
    return Optimization(name=name, summary=name, origin=(), options=Options, apply=apply, **given)


def known(*more: Optimization) -> dict[str, Optimization]:
    return {**available(), **{item.name: item for item in more}}


def refusal(opts: Any, pipeline: Pipeline | None = None, *more: Optimization) -> str:
    with pytest.raises(PlanError) as caught:
        resolve(pipeline or dien(), opts, NOTHING, known(*more))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_plan_is_the_first_pipeline() -> None:
    plan = resolve(dien(), {}, NOTHING)
    assert plan.steps == () and plan.pipeline == dien() and plan.division == "closed"


def test_a_plan_is_in_the_division_of_its_scope() -> None:
    item = optimization("rounded", scope="both", division_in_training="open")
    for scope, division in (("serve", "closed"), ("train", "open")):
        plan = resolve(dataclasses.replace(dien(), scope=scope), {"rounded": {}}, NOTHING, known(item))
        assert plan.division == plan.steps[0].division == division
    assert optimization("exact", division="open").division_of("train") == "open"


def test_fusion_and_bf16_write_two_slots_of_one_block() -> None:
    plan = resolve(dien(), {"bf16": {}, "fusion": {}}, NOTHING)
    assert [step.name for step in plan.steps] == ["fusion", "bf16"]
    slots = {block.path: (block.impl, block.dtype) for block in plan.pipeline.blocks}
    assert slots == {
        "features": ("fused", "fp32"),
        "embedding": ("fused", "bf16"),
        "gru": ("fused", "bf16"),
        "attention": ("fused", "bf16"),
        "augru": ("fused", "bf16"),
        "top.0": ("fused", "bf16"),
        "top.1": ("fused", "bf16"),
        "out": ("fused", "fp32"),
    }


def test_an_option_switches_one_role_off() -> None:
    plan = resolve(dien(), {"fusion": {"recurrent": False}}, NOTHING)
    assert {b.path for b in plan.pipeline.blocks if b.impl == "reference"} == {"gru", "augru"}
    assert plan.steps[0].options["recurrent"] is False


def test_the_wide_part_is_fused_but_keeps_its_precision() -> None:
    pipeline = first_pipeline(WdlConfig(), POINTWISE, "torch", "cpu", "serve")
    plan = resolve(pipeline, {"fusion": {}, "bf16": {}}, NOTHING)
    wide = next(block for block in plan.pipeline.blocks if block.path == "wide")
    assert (wide.impl, wide.dtype) == ("fused", "fp32")


@given(st.permutations([("bf16", None), ("executor", {"threads": 2}), ("fusion", {"fc": False}), ("x", {}), ("a", {})]))
def test_the_order_of_the_names_never_matters(pairs: list[tuple[str, Any]]) -> None:
    more = known(optimization("x"), optimization("a", "gru.packed"))
    plan = resolve(dien(), pairs, NOTHING, more)
    assert plan == resolve(dien(), sorted(pairs), NOTHING, more)
    assert [step.name for step in plan.steps] == ["a", "fusion", "x", "bf16", "executor"]


@given(st.sets(st.sampled_from(["fusion", "bf16", "executor", "x"])))
def test_what_changed_is_what_was_claimed(names: set[str]) -> None:
    plan = resolve(dien(), dict.fromkeys(names), NOTHING, known(optimization("x")))
    claimed = {slot for step in plan.steps for slot in step.claims}
    assert set(changed_slots(dien(), plan.pipeline)) == claimed


def test_options_come_as_object_mapping_or_nothing() -> None:
    by_object = resolve(dien(), {"executor": ExecutorOptions(threads=3, workers=2)}, NOTHING)
    runtime = by_object.pipeline.runtime
    assert resolve(dien(), {"executor": {"threads": 3, "workers": 2}}, NOTHING) == by_object
    assert (runtime.threads, runtime.workers) == (3, 2)
    assert resolve(dien(), {"fusion": None}, NOTHING) == resolve(dien(), {"fusion": FusionOptions()}, NOTHING)


def test_an_int_may_stand_for_a_float() -> None:
    plan = resolve(dien(), {"x": {"share": 1}}, NOTHING, known(optimization("x")))
    assert plan.steps[0].options == {"level": 1, "share": 1.0}


def test_emulated_is_the_lack_of_the_capability() -> None:
    def emulated(name: str, *capabilities: str, device: str = "cpu") -> bool:
        return resolve(dien(device=device), {name: {}}, frozenset(capabilities)).steps[0].emulated

    assert emulated("bf16") and emulated("bf16", "avx512_vnni")
    assert not emulated("bf16", "avx512_bf16") and not emulated("bf16", "amx_bf16")
    assert emulated("bf16", "cuda") and not emulated("bf16", "cuda", device="cuda")
    assert emulated("tf32", "avx512_bf16", "cuda") and not emulated("tf32", "cuda", device="cuda")
    assert not emulated("fusion")


def test_an_unknown_name_gets_the_nearest_one_and_the_list() -> None:
    message = refusal({"fuson": {}})
    assert "did you mean 'fusion'?" in message
    names = "allocator, async_embedding, bf16, dedup, embedding_tier, executor, fusion, graph_fusion, int8, micro_batch"
    assert f"{names}, packed_weights, sharded_embedding, smart_stage, stage, tf32" in message


def test_an_unknown_option_gets_the_nearest_one_and_the_list() -> None:
    message = refusal({"x": {"levl": 3}}, None, optimization("x"))
    assert "opt.x" in message and "'levl' (did you mean 'level'?)" in message and "level, share" in message


def test_a_value_of_the_wrong_type_is_refused() -> None:
    assert "opt.fusion.fc must be of type bool" in refusal({"fusion": {"fc": 1}})
    assert "opt.x.level must be of type int" in refusal({"x": {"level": True}}, None, optimization("x"))
    assert "expected named options" in refusal({"fusion": 3})
    assert "workers" in refusal({"executor": {"workers": -1}})


def test_a_name_listed_twice_is_refused() -> None:
    assert "'fusion' is listed 2 times" in refusal([("fusion", {}), ("fusion", {})])


def test_names_that_come_say_so() -> None:
    message = refusal({"x": {}, "fusion": {}}, None, optimization("x", coming="it comes with the next release"))
    assert "'x' is a known name without an implementation yet: it comes with the next release" in message


def test_two_writers_of_one_slot_are_named_with_the_slot() -> None:
    message = refusal({"tf32": {}, "bf16": {}})
    assert "'bf16'" in message and "'tf32'" in message and "'attention.dtype'" in message
    narrowed = resolve(
        dien(), {"tf32": {"attention": False, "recurrent": False, "fc": True}, "bf16": {"fc": False}}, NOTHING
    )
    assert {b.dtype for b in narrowed.pipeline.blocks} == {"fp32", "bf16", "tf32"}


def test_one_slot_may_be_written_in_two_phases() -> None:
    later = optimization("later", "gru.packed", phase=Phase.COMPILE)
    back = dataclasses.replace(later, apply=lambda p, o: p.with_block("gru", packed=False))
    plan = resolve(dien(), {"x": {}, "later": {}}, NOTHING, known(optimization("x", "gru.packed"), back))
    assert [step.name for step in plan.steps] == ["x", "later"] and plan.pipeline == dien()


def test_declared_conflicts_and_requirements() -> None:
    message = refusal({"x": {}, "fusion": {}}, None, optimization("x", conflicts=("fusion",)))
    assert "'x' and 'fusion' exclude each other" in message
    message = refusal({"x": {}}, None, optimization("x", requires=("fusion", "bf16")))
    assert "requires bf16, fusion" in message and "opt=[bf16,fusion,x]" in message


def test_scope_backend_and_device_name_what_can() -> None:
    assert "say scope=train" in refusal({"x": {}}, None, optimization("x", scope="train"))
    assert "say scope=serve" in refusal({"dedup": {}}, dien(scope="train"))
    assert resolve(dien(), {"x": {}}, NOTHING, known(optimization("x", scope="both"))).steps
    message = refusal({"x": {}}, None, optimization("x", backends=("openvino", "onnxruntime")))
    assert "backend=torch; it can on: onnxruntime, openvino; leave it out, or say backend=openvino" in message
    message = refusal({"x": {}}, None, optimization("x", devices=("cuda",)))
    assert "device=cpu" in message and "it does on: cuda" in message


@pytest.mark.parametrize(
    ("backend", "opts"),
    [
        ("onnxruntime", {"fusion": {}}),
        ("openvino", {"executor": {"mode": "inter_op"}}),
        ("torch", {"fusoin": {}}),
        ("torch", {"embedding_tier": {}}),
        ("torch", {"fusion": {}, "graph_fusion": {}}),
        ("torch", {"executor": {"workers": -1}}),
    ],
)
def test_what_no_data_can_mend_is_refused_before_there_are_any(backend: str, opts: dict[str, Any]) -> None:
    with pytest.raises(PlanError) as early:
        check_fits(backend, "cpu", "serve", opts)
    assert str(early.value) == refusal(opts, dien(backend=backend))
    check_fits(backend, "cpu", "serve", {"executor": {}})


def test_only_what_needs_no_block_is_offered_on_a_graph() -> None:
    """An exported graph has no blocks whose slots an optimization could write."""
    for backend in ("onnxruntime", "openvino"):
        able = {name for name, spec in available().items() if backend in spec.backends}
        assert able == {"allocator", "executor", "dedup"}
        blocks = {block.path for block in dien().blocks}
        for name in able:
            claims = resolve(dien(backend=backend), {name: {}}, NOTHING).steps[0].claims
            assert claims and not any(claim.rpartition(".")[0] in blocks for claim in claims)


def test_what_tensorflow_does_itself_is_offered_there_as_passes_over_its_graph() -> None:
    able = {name for name, spec in available().items() if "tensorflow" in spec.backends}
    assert able == {"allocator", "executor", "fusion", "bf16", "dedup"}
    first = dien(backend="tensorflow")
    assert resolve(first, {"fusion": {}}, NOTHING).pipeline.passes == ("constants",)
    assert resolve(first, {"fusion": {"xla": True}}, NOTHING).pipeline.passes == ("constants", "xla")
    rounded = resolve(first, {"bf16": {}, "fusion": {}}, NOTHING).pipeline
    roles = {block.role for block in rounded.blocks if block.dtype == "bf16"}
    assert roles == {"fc", "attention", "recurrent"} and not any(block.impl == "fused" for block in rounded.blocks)


def test_options_that_a_backend_lacks_name_the_backends_that_have_them() -> None:
    tensorflow = dien(backend="tensorflow")
    for opts in ({"fusion": {"attention": False}}, {"bf16": {"embedding": False}}):
        assert "cannot be lowered on backend=tensorflow; it can on: torch; change its options" in refusal(
            opts, tensorflow
        )
    assert "backend=torch; it can on: tensorflow; change its options" in refusal({"fusion": {"xla": True}})
    assert "leave the other options as they are" in refusal({"fusion": {"xla": True, "fc": False}}, tensorflow)
    assert "leave opt.fusion.xla or bf16 out" in refusal({"fusion": {"xla": True}, "bf16": {}}, tensorflow)
    assert resolve(tensorflow, {"dedup": {}}, NOTHING).steps[0].claims == ("expand",)
    for name in ("int8", "graph_fusion", "tf32"):
        assert f"{name!r} cannot be lowered on backend=tensorflow; it can on: torch" in refusal({name: {}}, tensorflow)


def test_a_plug_in_that_would_change_nothing_is_refused() -> None:
    roles = [field.name for field in dataclasses.fields(FusionOptions)]
    assert "would change nothing" in refusal({"fusion": dict.fromkeys(roles, False)})
    dlrm = first_pipeline(DlrmConfig(), POINTWISE, "torch", "cpu", "serve")
    only = {role: role == "recurrent" for role in roles}
    assert "would change nothing of model=dlrm" in refusal({"fusion": only}, dlrm)
    idle = dataclasses.replace(optimization("x"), apply=lambda pipeline, options: pipeline)
    assert "leaves the pipeline as it is" in refusal({"x": {}}, None, idle)


def test_a_plug_in_that_writes_what_it_did_not_claim_is_refused() -> None:
    liar = dataclasses.replace(optimization("x"), claims=lambda p, o: ("gru.packed",))
    assert "wrote the slots expand without claiming" in refusal({"x": {}}, None, liar)


def test_the_blocks_of_the_first_pipeline_are_the_reference() -> None:
    pipeline = first_pipeline(DlrmConfig(), POINTWISE, "torch", "cuda", "train")
    assert (pipeline.model, pipeline.device, pipeline.scope, pipeline.expand) == ("dlrm", "cuda", "train", "first")
    assert {(b.impl, b.dtype, b.packed) for b in pipeline.blocks} == {("reference", "fp32", False)}
    with pytest.raises(ValueError, match="reads user histories"):
        first_pipeline(DienConfig(), POINTWISE, "torch", "cpu", "serve")
