"""Tables in two tiers: the very scores of tables in memory, whichever rows are hot, and the numbers of the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimizations.embedding_tier.hot_rows import gathered
from optimizations.fusion.torch_embedding import FusedEmbedding
from zoo.blueprint import HotOrder
from zoo.checkpoint import load_weights, save_weights
from zoo.configs import DlrmConfig
from zoo.frequencies import row_frequencies
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.features import FeatureTransform, to_tensors

MODELS = ["wdl", "din", "dien", "dlrm"]


def mapped(served: Any, folder: Path) -> dict[str, Any]:
    """The weights as training leaves them, and the frequencies of the served rows."""
    save_weights(folder / "w.npz", served.context.weights)
    weights = load_weights(folder / "w.npz")
    return {"weights": weights, "frequencies": row_frequencies(served.context.schema, served.split)}


@pytest.mark.parametrize("more", [{}, {"dedup": {}}, {"micro_batch": {}}], ids=["alone", "dedup", "micro_batch"])
@pytest.mark.parametrize("order", ["row", "frequency"])
@pytest.mark.parametrize("hot_mb", [1e-4, 0.002, 100.0])
@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_tables_in_memory(
    every_column: Callable[[str], Any], tmp_path: Path, model: str, hot_mb: float, order: str, more: dict[str, Any]
) -> None:
    served = every_column(model)
    batch = served.split.batch(np.arange(len(served.split)))
    expected = served.session({"fusion": {}, **more}).predict(batch)
    tier = {"hot_mb": hot_mb, "order": order}
    session = served.session({"fusion": {}, "embedding_tier": tier, **more}, **mapped(served, tmp_path))
    np.testing.assert_array_equal(session.predict(batch), expected)
    (step,) = (step for step in session.report if step["name"] == "embedding_tier")
    built = step["built"]
    assert step["matched"] == ["embedding"] and not step["fallbacks"]
    assert 0 < built["hot_bytes"] <= min(hot_mb * 2**20, built["table_bytes"])
    share = built["hot_share_of_calibration"]
    assert share == 1 if hot_mb == 100.0 else 0 < share < 1


@pytest.mark.parametrize("order", ["row", "frequency"])
def test_a_hot_row_is_read_from_its_own_memory_and_a_cold_one_from_the_table(
    every_column: Callable[[str], Any], order: HotOrder
) -> None:
    """Hot rows are overwritten by negative numbers, so that nothing can take them from the table."""
    served = every_column("dlrm")
    schema, config = served.context.schema, DlrmConfig(embedding_dim=6)
    reference, mixed = (EmbeddingTables(config, schema).requires_grad_(False) for _ in range(2))
    rng = np.random.default_rng(1)
    chosen = {name: rng.permutation(table.num_embeddings)[::2] for name, table in reference.tables.items()}
    hot = gathered({name: table.weight.numpy() for name, table in reference.tables.items()}, chosen, order)
    for name, table in reference.tables.items():
        hot[name].rows[...] = -1 - rng.random(hot[name].rows.shape, np.float32)
        mixed.tables[name].weight.copy_(table.weight)
        mixed.tables[name].weight[np.sort(chosen[name]) if order == "row" else chosen[name]] = torch.from_numpy(
            hot[name].rows
        )
    features = FeatureTransform(schema)(to_tensors(served.split.training_batch(np.arange(len(served.split)))))
    found, expected = FusedEmbedding(reference, False, 1, hot)(features), FusedEmbedding(mixed, False, 1)(features)
    for name in ("user", "item", "target", "history"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert float(found.item.min()) < -1


def test_weights_that_are_not_mapped_stay_in_memory_on_record(every_column: Callable[[str], Any]) -> None:
    served = every_column("dlrm")
    frequencies = row_frequencies(served.context.schema, served.split)
    session = served.session({"fusion": {}, "embedding_tier": {}}, frequencies=frequencies)
    (step,) = (step for step in session.report if step["name"] == "embedding_tier")
    assert not step["matched"] and "save_weights" in step["fallbacks"][0]["reason"]


def test_counts_are_those_of_the_models_own_rows(every_column: Callable[[str], Any]) -> None:
    """Against the rows that the reference's features block finds, buckets and bags included."""
    served = every_column("dlrm")
    schema = served.context.schema
    batch = served.split.batch(np.arange(len(served.split)))
    raw = to_tensors(batch)
    transform = FeatureTransform(schema)
    counts: dict[str, np.ndarray] = {name: np.zeros(rows, int) for name, rows in schema.tables().items()}
    for name, rows in (("user", transform.user(raw.user)), ("item", transform.item(raw.item))):
        for column, field in enumerate(schema.ids_of(name)):
            counts[field.table] += np.bincount(rows.rows[:, column], minlength=field.rows)
        for bag, field in enumerate(schema.bags_of(name)):
            for r in range(len(rows.rows)):
                first = r * len(schema.bags_of(name)) + bag
                of_bag = rows.bag_rows[rows.bag_offsets[first] : rows.bag_offsets[first + 1]]
                counts[field.table] += np.bincount(of_bag, minlength=field.rows)
    for column, field in enumerate(schema.history):
        counts[field.table] += np.bincount(transform.history_rows(raw.history)[:, column], minlength=field.rows)
    for table, (found, times) in row_frequencies(schema, batch).items():
        assert np.array_equal(np.sort(found), np.flatnonzero(counts[table])), table
        assert np.array_equal(counts[table][found], times) and np.all(np.diff(times) <= 0)
