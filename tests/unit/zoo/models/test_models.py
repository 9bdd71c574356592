from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from zoo.blueprint import Block, describe
from zoo.configs import DienConfig, DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.layers.attention import LocalActivationUnit, SoftmaxAttention
from zoo.layers.augru import Augru, Gru
from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.features import FeatureTransform, to_tensors
from zoo.layers.interaction import DotInteraction
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.tensors import Columns
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.schema import Schema, Split

CONFIGS: dict[str, ModelConfig] = {
    "wdl": WdlConfig(embedding_dim=6, large_dim=8, large_fields=("C3", "tags"), deep_units=(16, 8)),
    "din": DinConfig(embedding_dim=5, attention_units=(7, 4), top_units=(12, 6)),
    "dien": DienConfig(embedding_dim=5, hidden_units=9, attention_units=(7, 4), top_units=(12, 6)),
    "dlrm": DlrmConfig(embedding_dim=6, bottom_units=(8, 6), top_units=(10, 5)),
}
BUILDABLE = [
    (m, s)
    for m in CONFIGS
    for s in ("mixed", "pointwise", "sequence")
    if (m, s) not in {("din", "pointwise"), ("dien", "pointwise")}
]


def _randomised(model: CtrModel) -> CtrModel:
    for name, value in model.state_dict().items():
        value.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else 0.3 * torch.randn_like(value))
    return model.eval()


def _shape_of(module: torch.nn.Module, model: CtrModel, schema: Schema) -> dict[str, int]:
    if isinstance(module, FeatureTransform):
        both = len(schema.ids) + len(schema.bags) + len(schema.history)
        item = len(schema.ids_of("item")) + len(schema.bags_of("item")) + len(schema.dense_of("item"))
        return {"fields": both, "dense": len(schema.dense), "user_fields": both + len(schema.dense) - item}
    if isinstance(module, EmbeddingTables):
        fields = [*schema.ids, *schema.bags, *schema.history]
        width = sum(module.tables[field.table].embedding_dim for field in fields)
        return {"fields": len(fields), "width": width}
    if isinstance(module, WideTables):
        return {"fields": len(module.tables) + len(module.crosses), "width": 1}
    if isinstance(module, FullyConnected):
        return {"inputs": module.linear.in_features, "outputs": module.linear.out_features}
    if isinstance(module, DotInteraction):
        vectors = (1 + int((1 + 8 * len(module.pairs)) ** 0.5)) // 2
        return {"vectors": vectors, "width": model.embedding.tables[schema.ids[0].table].embedding_dim}
    if isinstance(module, Gru | Augru):
        return {"inputs": module.weight_ih.shape[1], "hidden": module.weight_hh.shape[1]}
    units = {f"units{k}": layer.linear.out_features for k, layer in enumerate(module.units)}
    shape = {"width": module.units[0].linear.in_features // 4, **units}
    return shape | ({"query": module.query.linear.in_features} if isinstance(module, SoftmaxAttention) else {})


CLASSES = {
    ("features", "all"): FeatureTransform,
    ("embedding", "all"): EmbeddingTables,
    ("embedding", "wide"): WideTables,
    ("interaction", "dot"): DotInteraction,
    ("attention", "din"): LocalActivationUnit,
    ("attention", "dien"): SoftmaxAttention,
    ("recurrent", "gru"): Gru,
    ("recurrent", "augru"): Augru,
}


@pytest.mark.parametrize(("name", "data"), BUILDABLE)
def test_blocks_are_those_of_the_blueprint(name: str, data: str, schemas: dict[str, Schema]) -> None:
    schema = schemas[data]
    model = build_model(CONFIGS[name], schema)
    blocks = describe(CONFIGS[name], schema)
    for block in blocks:
        module = model.get_submodule(block.path)
        assert type(module) is (FullyConnected if block.role == "fc" else CLASSES[block.role, block.kind])
        assert _shape_of(module, model, schema) == dict(block.shape), block.path
        if isinstance(module, FullyConnected):
            assert module.kind == block.kind
    assert _uncovered(model, blocks) == []


@pytest.mark.parametrize(("name", "data"), BUILDABLE)
def test_first_layers_get_the_columns_of_the_blueprint(
    name: str, data: str, schemas: dict[str, Schema], random_split: Callable[..., Split]
) -> None:
    """What a model hands to its stacks lies where ``user_columns`` says, once per user."""
    schema = schemas[data]
    model = build_model(CONFIGS[name], schema)
    model.expand_first = False
    seen: dict[str, Columns] = {}
    for path, module in model.named_children():
        if isinstance(module, FullyConnectedStack):
            module.register_forward_pre_hook(lambda stack, args, path=path: seen.update({path: args[0]}))
    model.eval()(to_tensors(random_split(schema, 3, 7, seed=1).batch(np.arange(7))))
    for block in describe(CONFIGS[name], schema):
        columns = seen.get(block.path.removesuffix(".0")) if block.path.endswith(".0") else None
        if not isinstance(columns, Columns):
            assert block.user_columns == ()
            continue
        where = torch.cat([torch.full((part.shape[1],), s) for part, s in zip(*columns[:2], strict=True)])
        expected = torch.zeros(dict(block.shape)["inputs"], dtype=torch.bool)
        for first, end in block.user_columns:
            expected[first:end] = True
        assert where.bool().tolist() == expected.tolist() and columns.joined().shape == (7, len(expected))
        assert {len(part) for part, shared in zip(*columns[:2], strict=True) if shared} <= {3}


def _uncovered(model: CtrModel, blocks: tuple[Block, ...]) -> list[str]:
    """Parameters of the served model outside every block."""
    prefixes = (*(f"{block.path}." for block in blocks), *(f"{name}." for name in model.training_only))
    return [name for name, _ in model.named_parameters() if not name.startswith(prefixes)]


@pytest.mark.parametrize(("name", "data"), BUILDABLE)
@pytest.mark.parametrize(("users", "lengths"), [(1, [5]), (1, [0]), (3, [5, 0, 2]), (7, [1, 0, 5, 5, 2, 0, 3])])
def test_expanding_first_or_late_scores_the_same(
    name: str,
    data: str,
    users: int,
    lengths: list[int],
    schemas: dict[str, Schema],
    random_split: Callable[..., Split],
) -> None:
    split = random_split(schemas[data], users, 7, seed=users, lengths=lengths)
    model = _randomised(build_model(CONFIGS[name], schemas[data]))
    raw = to_tensors(split.batch(np.arange(7)))
    first = model.score(raw)
    model.expand_first = False
    torch.testing.assert_close(model.score(raw), first, rtol=0, atol=1e-6)
    assert first.dtype == torch.float32 and first.std() > 1e-4


@pytest.mark.parametrize(("name", "data"), BUILDABLE)
def test_a_sample_scores_alike_alone_and_in_company(
    name: str, data: str, schemas: dict[str, Schema], random_split: Callable[..., Split]
) -> None:
    split = random_split(schemas[data], 3, 7, seed=2)
    model = _randomised(build_model(CONFIGS[name], schemas[data]))
    together = model.score(to_tensors(split.batch(np.arange(7))))
    alone = torch.cat([model.score(to_tensors(split.batch(np.array([k])))) for k in range(7)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["din", "dien"])
def test_sequence_models_need_a_history(name: str, schemas: dict[str, Schema]) -> None:
    with pytest.raises(ValueError, match="has none"):
        build_model(CONFIGS[name], schemas["pointwise"])


def test_dlrm_refuses_a_bottom_that_cannot_be_dotted(schemas: dict[str, Schema]) -> None:
    with pytest.raises(ValueError, match=r"\(32 columns\).*\(16\)"):
        build_model(DlrmConfig(bottom_units=(64, 32)), schemas["pointwise"])


def test_dien_auxiliary_loss_against_loops(schemas: dict[str, Schema], random_split: Callable[..., Split]) -> None:
    schema = schemas["sequence"]
    split = random_split(schema, 4, 4, seed=3, lengths=[5, 0, 1, 3])
    model = _randomised(build_model(CONFIGS["dien"], schema))
    raw = to_tensors(split.training_batch(np.arange(4)))._replace(user_of=None)
    negatives = torch.randint(0, 37, raw.history.shape)
    given = model.training_input(raw, negatives)
    logits, auxiliary = model.training_terms(given)
    torch.testing.assert_close(logits, model(raw), rtol=0, atol=1e-7)
    table = model.embedding.tables["item"].weight
    total, steps = 0.0, 0
    for row in range(4):
        begin, end = raw.history_offsets[row : row + 2].tolist()
        own = table[raw.history[begin:end, 0].clamp(min=0)]
        states = model.gru(own[None], torch.tensor([end - begin]))[0] if end > begin else None
        for step in range(end - begin - 1):
            state, other = states[step : step + 1], table[negatives[begin + step + 1]]
            clicked = torch.sigmoid(model.auxiliary(state, own[step + 1 : step + 2]))
            sampled = torch.sigmoid(model.auxiliary(state, other))
            total -= (torch.log(clicked) + torch.log(1 - sampled)).item()
            steps += 1
    assert steps == model.auxiliary_terms(given) == 6
    assert auxiliary.item() == pytest.approx(total / steps, abs=1e-5)


def test_dien_auxiliary_loss_of_short_histories_is_zero(
    schemas: dict[str, Schema], random_split: Callable[..., Split]
) -> None:
    split = random_split(schemas["sequence"], 2, 2, seed=3, lengths=[1, 0])
    model = build_model(CONFIGS["dien"], schemas["sequence"])
    raw = to_tensors(split.training_batch(np.arange(2)))._replace(user_of=None)
    given = model.training_input(raw, torch.zeros_like(raw.history))
    logits, auxiliary = model.training_terms(given)
    assert auxiliary.item() == model.auxiliary_terms(given) == 0
    (logits.sum() + auxiliary).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.gru.parameters())
