"""What dedup claims: the expansion, and the blocks whose first layer mixes columns of both sides."""

from __future__ import annotations

import itertools

import pytest

from optimizations.contract import Pipeline, PlanError
from optimizations.plan import first_pipeline, pipeline_from_json, pipeline_to_json, resolve
from optimizations.slots import changed_slots
from zoo.configs import DienConfig, DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.schema import DenseField, HistoryField, IdField, Schema, Side

NOTHING: frozenset[str] = frozenset()
CONFIGS: dict[str, ModelConfig] = {"wdl": WdlConfig(), "din": DinConfig(), "dien": DienConfig(), "dlrm": DlrmConfig()}
SPLIT = {"wdl": {"deep.0"}, "din": {"attention", "top.0"}, "dien": {"attention", "top.0"}, "dlrm": {"bottom.0"}}


def schema(dense: tuple[Side, ...], ids: tuple[Side, ...], history: bool = False) -> Schema:
    """One field per entry; a history of the first item id."""
    items = [k for k, side in enumerate(ids) if side == "item"]
    return Schema(
        name="s",
        dense=tuple(DenseField(name=f"I{k}", side=side) for k, side in enumerate(dense)),
        ids=tuple(
            IdField(name=f"C{k}", side=side, column=ids[:k].count(side), table=f"C{k}", rows=10)
            for k, side in enumerate(ids)
        ),
        history=(HistoryField(name="h", target=f"C{items[0]}", table=f"C{items[0]}", rows=10),) if history else (),
    )


BOTH = schema(("user", "item", "item"), ("user", "item"), history=True)


def pipeline(model: str, of: Schema = BOTH) -> Pipeline:
    return first_pipeline(CONFIGS[model], of, "torch", "cpu", "serve")


def split_blocks(of: Pipeline) -> set[str]:
    return {block.path for block in of.blocks if block.split}


@pytest.mark.parametrize("model", CONFIGS)
def test_it_claims_the_expansion_and_the_mixing_layers(model: str) -> None:
    plan = resolve(pipeline(model), {"dedup": {}}, NOTHING)
    assert plan.pipeline.expand == "late" and split_blocks(plan.pipeline) == SPLIT[model]
    (step,) = plan.steps
    assert set(step.claims) == {"expand", *(f"{path}.split" for path in SPLIT[model])}
    assert changed_slots(pipeline(model), plan.pipeline) == step.claims
    assert plan.division == "closed" and not step.emulated
    assert pipeline_from_json(pipeline_to_json(plan.pipeline)) == plan.pipeline


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_it_composes_in_any_order(model: str, precision: str) -> None:
    names = ["fusion", "dedup", "executor", precision]
    options = {"executor": {"workers": 2}}
    plans = [
        resolve(pipeline(model), [(name, options.get(name)) for name in order], NOTHING)
        for order in itertools.permutations(names)
    ]
    assert all(plan == plans[0] for plan in plans)
    assert [step.name for step in plans[0].steps] == ["dedup", "fusion", precision, "executor"]
    block = next(block for block in plans[0].pipeline.blocks if block.split and block.role == "fc")
    assert (block.impl, block.dtype, block.split) == ("fused", precision, True)


def test_the_split_can_be_switched_off() -> None:
    plan = resolve(pipeline("dien"), {"dedup": {"split": False}}, NOTHING)
    assert plan.pipeline.expand == "late" and split_blocks(plan.pipeline) == set()
    assert plan.steps[0].claims == ("expand",)


def test_the_columns_of_a_user_are_spans_of_the_inputs() -> None:
    blocks = {block.path: block for block in pipeline("din").blocks}
    width = DinConfig().embedding_dim
    # user | item | one dense of the user | two of the item | summed history | target * summed | attended
    assert blocks["top.0"].user_columns == ((0, width), (2 * width, 2 * width + 1), (2 * width + 3, 3 * width + 3))
    assert {block.user_columns for path, block in blocks.items() if path != "top.0"} == {()}


@pytest.mark.parametrize("model", ["wdl", "dlrm"])
def test_without_a_user_side_there_is_nothing_to_do(model: str) -> None:
    item_only = pipeline(model, schema(("item",), ("item", "item")))
    with pytest.raises(PlanError, match=f"'dedup' would change nothing of model={model}"):
        resolve(item_only, {"dedup": {}}, NOTHING)


def test_a_layer_of_one_kind_of_columns_stays_whole() -> None:
    for dense in (("user", "user"), ("item",)):
        plan = resolve(pipeline("dlrm", schema(dense, ("user", "item"))), {"dedup": {}}, NOTHING)
        assert plan.pipeline.expand == "late" and split_blocks(plan.pipeline) == set()


def test_training_is_refused() -> None:
    training = first_pipeline(DlrmConfig(), BOTH, "torch", "cpu", "train")
    with pytest.raises(PlanError, match="say scope=serve"):
        resolve(training, {"dedup": {}}, NOTHING)
