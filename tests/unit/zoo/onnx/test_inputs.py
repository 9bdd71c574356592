"""The arguments of an exported graph: their order, padded histories, and the example that is traced."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.onnx.export import TWO_DIMENSIONS, example_batch
from zoo.onnx.inputs import INPUTS, padded, raw_arrays
from zoo.onnx.padded_model import PaddedModel
from zoo.schema import MISSING_ID, Schema, Split


def test_the_names_are_those_of_the_form() -> None:
    assert tuple(inspect.signature(PaddedModel.forward).parameters)[1:] == INPUTS


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 2))
def test_padding_keeps_every_behaviour_and_has_a_step(lengths: list[int], columns: int) -> None:
    offsets = np.cumsum([0, *lengths])
    history = np.arange(offsets[-1] * columns).reshape(offsets[-1], columns)
    rows, found = padded(history, offsets)
    assert found.tolist() == lengths and rows.shape == (len(lengths), max(1, *lengths), columns)
    for user, length in enumerate(lengths):
        assert rows[user, :length].tolist() == history[offsets[user] : offsets[user + 1]].tolist()
        assert (rows[user, length:] == MISSING_ID).all()


def test_the_history_of_one_user_is_not_copied(mixed_split: Split) -> None:
    batch = mixed_split.batch(mixed_split.groups[0] + np.arange(1))
    assert np.shares_memory(raw_arrays(batch)["history"], batch.history)


@pytest.mark.parametrize("name", ["mixed", "pointwise", "sequence"])
def test_no_two_sizes_of_the_example_are_the_same_unless_they_are_one(schemas: dict[str, Schema], name: str) -> None:
    """Else the exporter would take two dimensions for one."""
    batch = example_batch(schemas[name])
    arrays = raw_arrays(batch)
    assert list(arrays) == list(INPUTS) and len(batch) == 13
    sizes = {name: array.shape[: 2 if name in TWO_DIMENSIONS else 1] for name, array in arrays.items()}
    users = {sizes[name][0] for name in ("user_dense", "user_ids", "history", "history_lengths")}
    samples = {sizes[name][0] for name in ("item_dense", "item_ids", "user_of")}
    others = [
        sizes["history"][1],
        *(sizes[f"{s}_bag_{part}"][0] for s in ("user", "item") for part in ("values", "offsets")),
    ]
    varying = [n for n in (*users, *samples, *others) if n > 1]
    assert len(users) == len(samples) == 1 and max(Counter(varying).values()) == 1
