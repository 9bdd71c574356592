from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.configs import DinConfig, WdlConfig
from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.features import FeatureTransform, to_tensors
from zoo.layers.tensors import Features
from zoo.schema import HistoryField, IdField, Schema, Split


@pytest.fixture
def features(mixed: Schema, mixed_split: Split) -> Features:
    return FeatureTransform(mixed)(to_tensors(mixed_split.batch(np.arange(7))))


def _array(table: torch.nn.Module) -> np.ndarray:
    return table.weight.detach().numpy()


def _bag(features: Features, side: str, column: int, width: int, row: int) -> np.ndarray:
    part = getattr(features, side)
    begin, end = part.bag_offsets[row * width + column], part.bag_offsets[row * width + column + 1]
    return part.bag_rows[begin:end].numpy()


def test_tables_against_loops(mixed: Schema, features: Features) -> None:
    tables = EmbeddingTables(DinConfig(embedding_dim=4), mixed)
    got = tables(features)
    weight = {name: _array(table) for name, table in tables.tables.items()}
    for row in range(len(features.user.rows)):
        tags, badges = _bag(features, "user", 0, 2, row), _bag(features, "user", 1, 2, row)
        wanted = [
            weight["city"][features.user.rows[row, 0]],
            weight["age_bucket"][features.user.rows[row, 1]],
            weight["tags"][tags].sum(0),
            weight["badges"][badges].mean(0) if len(badges) else np.zeros(4),
        ]
        np.testing.assert_allclose(got.user[row].detach(), np.concatenate(wanted), atol=1e-7)
    for row in range(7):
        words = _bag(features, "item", 0, 1, row)
        item, category = weight["item"][features.item.rows[row, 0]], weight["category"][features.item.rows[row, 1]]
        pooled = weight["words"][words].mean(0) if len(words) else np.zeros(4)
        np.testing.assert_allclose(got.item[row].detach(), np.concatenate([item, category, pooled]), atol=1e-7)
        np.testing.assert_array_equal(got.target[row].detach(), np.concatenate([item, category]))
    history = features.history.numpy()
    wanted_history = np.concatenate([weight["item"][history[..., 0]], weight["category"][history[..., 1]]], -1)
    np.testing.assert_array_equal(got.history.detach(), wanted_history)


def test_large_fields_have_their_own_width() -> None:
    schema = Schema(
        name="two",
        ids=tuple(IdField(name=n, side="item", column=k, table=n, rows=5) for k, n in enumerate(("C1", "C3"))),
    )
    tables = EmbeddingTables(WdlConfig(), schema)
    assert {name: tuple(table.weight.shape) for name, table in tables.tables.items()} == {"C1": (5, 64), "C3": (5, 128)}


def test_fields_of_one_table_must_agree_on_its_width() -> None:
    schema = Schema(
        name="clash",
        ids=tuple(IdField(name=n, side="item", column=k, table="t", rows=5) for k, n in enumerate(("C1", "C3"))),
        history=(HistoryField(name="h", target="C1", table="t", rows=5),),
    )
    with pytest.raises(ValueError, match="'C3' asks for 128 columns of table 't', which has 64"):
        EmbeddingTables(WdlConfig(), schema)


def test_gradients_are_sparse(mixed: Schema, features: Features) -> None:
    tables = EmbeddingTables(DinConfig(embedding_dim=4), mixed)
    got = tables(features)
    (got.user.sum() + got.item.sum() + got.history.sum()).backward()
    for name, table in tables.tables.items():
        assert table.weight.grad.is_sparse, name
    touched = set(features.item.rows[:, 0].tolist()) | set(features.history[..., 0].flatten().tolist())
    assert set(tables.tables["item"].weight.grad.coalesce().indices()[0].tolist()) == touched


def test_wide_part_against_loops(mixed: Schema, features: Features) -> None:
    wide = WideTables(mixed)
    for parameter in wide.parameters():
        torch.nn.init.normal_(parameter)
    weight = {name: _array(table)[:, 0] for name, table in wide.tables.items()}
    slope, bias = wide.dense.detach().numpy(), float(wide.bias.detach())
    got = wide(features).detach().numpy()
    for row in range(7):
        user = int(features.user_of[row])
        total = bias + float(
            features.user.dense[user].numpy() @ slope[:1] + features.item.dense[row].numpy() @ slope[1:]
        )
        total += weight["city"][features.user.rows[user, 0]] + weight["age_bucket"][features.user.rows[user, 1]]
        total += weight["item"][features.item.rows[row, 0]] + weight["category"][features.item.rows[row, 1]]
        total += _array(wide.crosses["city_x_item"])[features.crosses[row, 0], 0]
        total += weight["tags"][_bag(features, "user", 0, 2, user)].sum()
        for name, part, column, width, who in (("badges", "user", 1, 2, user), ("words", "item", 0, 1, row)):
            rows = _bag(features, part, column, width, who)
            total += weight[name][rows].mean() if len(rows) else 0.0
        assert got[row] == pytest.approx(total, abs=1e-5)
