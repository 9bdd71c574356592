"""What of sharded_embedding needs no TorchRec: which rows a step asks for, and what is made of their vectors."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from optimizations.sharded_embedding.lookups import Lookups, pooled
from optimizations.sharded_embedding.rank_model import rank_model
from optimizations.sharded_embedding.rank_state import RankState
from optimizations.sharded_embedding.row_plan import own_rows, table_rows
from tests.parity.conftest import EVERY_COLUMN, ODD_SIZES, trained_scale
from tests.parity.sharded_case import every_column
from zoo.layers.features import to_tensors
from zoo.learning import Learner, PlainSteps
from zoo.models import build_model
from zoo.models.dien import followed
from zoo.optimizers import build_optimizers
from zoo.training import load_into, weights_of
from zoo.training_batches import TrainingBatches
from zoo.training_config import training_config


@pytest.mark.parametrize("name", list(ODD_SIZES))
def test_looked_up_row_by_row_the_blocks_give_what_the_reference_gives(name: str) -> None:
    split = every_column()
    model = build_model(ODD_SIZES[name], EVERY_COLUMN)
    load_into(model, trained_scale(ODD_SIZES[name], EVERY_COLUMN, seed=2))
    raw = to_tensors(split.training_batch(np.arange(0, len(split.labels), 3)))._replace(user_of=None)
    given = model.training_input(raw, raw.history.flip(0) if model.needs_negatives else None)
    lookups = Lookups(model, EVERY_COLUMN)
    tables = dict(model.named_parameters())
    asked = lookups.of(given)
    found, sampled = lookups.embedded(given, [tables[lookup.table][lookup.rows] for lookup in asked])
    if given.negatives is not None:
        assert sampled is not None
        rows = followed(given.features.lengths, given.negatives)[-1]
        assert torch.equal(sampled, model.embedding.behaviours(rows)) and len(rows) > 100
    for mine, theirs in zip(found, model.embedded(given.features), strict=True):
        if theirs is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert {lookup.table for lookup in asked} == {name for name in table_rows(EVERY_COLUMN) if name in tables}


def test_a_bag_is_summed_or_averaged_by_hand() -> None:
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    offsets = torch.tensor([0, 2, 2, 3])
    assert pooled(vectors, offsets, False).tolist() == [[4.0, 6.0], [0.0, 0.0], [10.0, 20.0]]
    assert pooled(vectors, offsets, True).tolist() == [[2.0, 3.0], [0.0, 0.0], [10.0, 20.0]]


@pytest.mark.parametrize("name", list(ODD_SIZES))
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_the_ranks_models_are_the_whole_one_put_together(name: str, ranks: int) -> None:
    start = trained_scale(ODD_SIZES[name], EVERY_COLUMN, seed=5)
    rows = table_rows(EVERY_COLUMN)
    parts = [weights_of(rank_model(ODD_SIZES[name], EVERY_COLUMN, start, 1, rank, ranks)) for rank in range(ranks)]
    for path, array in start.items():
        if path in rows:
            own = [part[path][: len(own_rows(rows[path], rank, ranks))] for rank, part in enumerate(parts)]
            np.testing.assert_array_equal(np.concatenate(own), array)
        else:
            assert all(np.array_equal(part[path], array) for part in parts)


def test_the_ranks_parts_of_a_state_are_the_whole_one_put_together() -> None:
    """Parameters, sums of Adagrad, z and n of FTRL-Proximal, moments of Adam, and averages with their steps."""
    training = training_config("wdl", {"batch_size": 20, "average": 0.9})
    plain = Learner(build_model(ODD_SIZES["wdl"], EVERY_COLUMN), training, 50)
    batches = TrainingBatches(every_column(), 20, 5, False)
    steps = PlainSteps(batches, plain)
    for _ in range(3):
        steps.step(batches.draw())
    whole, rows, found = plain.state_dict(), table_rows(EVERY_COLUMN), []
    for rank in range(3):
        model = rank_model(ODD_SIZES["wdl"], EVERY_COLUMN, weights_of(plain.model), 1, rank, 3)
        optimizers = build_optimizers(model, training)
        learner = Learner(model, training, 50, optimizers)
        learner.load_state_dict(RankState(model, optimizers, rows, rank, 3).own(whole))
        found.append(learner.state_dict())
    names = [name for name, _ in plain.model.named_parameters()]
    paths = [("model", name) for name in whole["model"]]
    paths += [("average", "kept", number, key) for number in range(len(names)) for key in ("mean", "steps", "touched")]
    paths += [
        ("optimizers", kind, "state", number, key)
        for kind, own in enumerate(whole["optimizers"])
        for number, values in own["state"].items()
        for key in values
    ]
    tables = 0
    for path in paths:
        expected, *parts = (functools.reduce(lambda value, key: value[key], path, each) for each in (whole, *found))
        if parts[0].shape == expected.shape:
            assert all(torch.equal(part, expected) for part in parts), path
            continue
        owned = [len(own_rows(len(expected), rank, 3)) for rank in range(3)]
        tables += 1
        assert torch.equal(torch.cat([part[:count] for part, count in zip(parts, owned, strict=True)]), expected), path
    # Each table itself, what its average knows of it (3), and its optimizer: Adagrad a sum, FTRL-Proximal z and n.
    deep, wide = (sum(name.startswith(part) and name in rows for name in names) for part in ("embedding", "wide"))
    assert (deep, wide, tables) == (7, 8, 7 * 5 + 8 * 6)
    assert found[0]["steps"] == 3 and found[0]["schedules"] == whole["schedules"]


def test_start_weights_of_other_data_are_refused() -> None:
    start = trained_scale(ODD_SIZES["dlrm"], EVERY_COLUMN, seed=5)
    start["embedding.tables.item.weight"] = start["embedding.tables.item.weight"][:-1]
    with pytest.raises(ValueError, match=r"wrong shape: embedding.tables.item.weight is \[369, 6\], not \[370, 6\]"):
        rank_model(ODD_SIZES["dlrm"], EVERY_COLUMN, start, 1, 0, 2)
