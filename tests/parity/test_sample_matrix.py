"""The columns that peers get, made by numpy, are those that the reference engineers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.peers.sample_matrix import (
    LARGEST_ROW,
    STEPS,
    SampleMatrix,
    history_widths,
    longest_bags,
    side_widths,
)
from tests.parity.graph_serving import queries, without_history
from zoo.layers.features import FeatureTransform, expand, to_tensors
from zoo.layers.ragged import pad_segments
from zoo.schema import Schema


def places_of(schema: Schema, longest: dict[str, int], reverse: bool = False) -> dict[str, tuple[int, int]]:
    """All columns one after the other, or the last one first."""
    widths = [*side_widths(schema, "user", longest), *side_widths(schema, "item", longest), *history_widths(schema)]
    widths += [(field.name, 1) for field in schema.crosses]
    widths = widths[::-1] if reverse else widths
    ends = np.cumsum([0, *(width for _, width in widths)]).tolist()
    return dict(zip([name for name, _ in widths], itertools.pairwise(ends), strict=True))


@pytest.mark.parametrize("reverse", [False, True])
def test_every_column_is_the_reference_s(every_column: Callable[[str], Any], reverse: bool) -> None:
    served = every_column("din")
    schema, longest = served.context.schema, longest_bags(served.context.schema, served.split)
    places = places_of(schema, longest, reverse)
    matrix, reference = SampleMatrix(schema, longest, places), FeatureTransform(schema)
    for batch in (*queries(served.split), without_history(served.split.batch(np.arange(3)))):
        rows = matrix(batch)
        assert rows.shape == (len(batch), max(end for _, end in places.values())) and rows.dtype == np.float32
        with torch.inference_mode():
            expected = reference(expand(to_tensors(batch)))

        def column(name: str, rows: Any = rows) -> Any:
            return rows[:, slice(*places[name])]

        for side, part in (("user", expected.user), ("item", expected.item)):
            for k, field in enumerate(schema.dense_of(side)):
                np.testing.assert_allclose(column(field.name)[:, 0], part.dense[:, k], rtol=1e-6, atol=1e-6)
            for k, field in enumerate(schema.ids_of(side)):
                assert np.array_equal(column(field.name)[:, 0], part.rows[:, k])
            bags = schema.bags_of(side)
            padded, lengths = pad_segments(part.bag_rows.unsqueeze(1), part.bag_offsets)
            for k, bag in enumerate(bags):
                values = padded[k :: len(bags), :, 0].numpy()[:, : longest[bag.name]]
                assert np.array_equal(column(f"{bag.name}_length")[:, 0], lengths[k :: len(bags)])
                assert np.array_equal(column(bag.name)[:, : values.shape[1]], values)
                assert not column(bag.name)[:, values.shape[1] :].any()
        for k, past in enumerate(schema.history):
            steps = expected.history[..., k].numpy()
            real = np.arange(steps.shape[1]) < expected.lengths.numpy()[:, np.newaxis]
            assert np.array_equal(column(f"hist_{past.target}")[:, : steps.shape[1]], np.where(real, steps, 0))
        assert np.array_equal(column(STEPS)[:, 0], expected.lengths)
        for k, cross in enumerate(schema.crosses):
            assert np.array_equal(column(cross.name)[:, 0], expected.crosses[:, k])


def test_what_is_not_asked_for_is_left_out(every_column: Callable[[str], Any]) -> None:
    served = every_column("din")
    schema, longest = served.context.schema, longest_bags(served.context.schema, served.split)
    places = places_of(schema, longest)
    some = {"price": (0, 1), STEPS: (1, 2)}
    batch = served.split.batch(np.arange(17, dtype=np.int64))
    whole, few = SampleMatrix(schema, longest, places)(batch), SampleMatrix(schema, longest, some)(batch)
    assert np.array_equal(few, np.concatenate([whole[:, slice(*places[name])] for name in some], 1))


def test_bags_that_are_too_long_are_cut_and_histories_have_a_step_where_one_is_needed(
    every_column: Callable[[str], Any],
) -> None:
    served = every_column("din")
    schema = served.context.schema
    short = dict.fromkeys(longest_bags(schema, served.split), 1)
    places = places_of(schema, short)
    batch = without_history(served.split.batch(np.arange(12, dtype=np.int64)))
    rows = SampleMatrix(schema, short, places, fewest_steps=1)(batch)
    lengths = np.diff(batch.user.bag_offsets).reshape(-1, 2)[:, 0]
    assert np.array_equal(rows[:, places["tags_length"][0]], np.minimum(lengths, 1)[batch.user_of])
    assert (rows[:, places[STEPS][0]] == 1).all() and not rows[:, slice(*places["hist_category"])].any()


def test_ids_that_a_float_does_not_hold_are_refused(every_column: Callable[[str], Any]) -> None:
    schema = every_column("din").context.schema
    large = dataclasses.replace(schema.ids[0], rows=LARGEST_ROW + 1)
    with pytest.raises(ValueError, match="tables of 16777216 rows at most"):
        SampleMatrix(dataclasses.replace(schema, ids=(large, *schema.ids[1:])), {}, {STEPS: (0, 1)})
