"""Hashing, ragged gathers and batches of zoo.schema against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.schema import (
    BagField,
    CrossField,
    DenseField,
    HistoryField,
    IdField,
    Rows,
    Schema,
    Split,
    hash_rows,
    take_ragged,
)

any_id = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def reference_row(raw: int, rows: int) -> int:
    """The documented formula in whole numbers of any size."""
    if raw == -1:
        return 0
    return 1 + (((raw * 0x9E3779B97F4A7C15) % 2**64) >> 33) % (rows - 1)


@given(st.lists(any_id, min_size=1, max_size=50), st.integers(2, 2**31 - 1))
def test_hash_rows_is_the_documented_formula(raw: list[int], rows: int) -> None:
    got = hash_rows(np.array(raw, np.int64), rows)
    assert got.dtype == np.int64
    assert got.tolist() == [reference_row(each, rows) for each in raw]


@pytest.mark.parametrize(("raw", "row"), [(-1, 0), (0, 1), (1, 1_327_217_884 % 999 + 1), (2, 506_952_121 % 999 + 1)])
def test_hash_rows_of_small_ids_by_hand(raw: int, row: int) -> None:
    assert hash_rows(np.array([raw], np.int64), 1_000).tolist() == [row]


def test_hash_rows_spreads_consecutive_ids_evenly() -> None:
    counts = np.bincount(hash_rows(np.arange(100_000, dtype=np.int64), 1_001), minlength=1_001)
    assert counts[0] == 0
    # Fibonacci hashing spreads a run of ids better than chance; 160 is chance's own 6-sigma bound around 100.
    assert counts[1:].min() >= 40
    assert counts[1:].max() <= 160


segments = st.lists(st.lists(any_id, max_size=6), min_size=1, max_size=12)


@given(segments, st.data())
def test_take_ragged_gathers_segments_in_order(parts: list[list[int]], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(parts) - 1), max_size=20))
    flat = np.array([value for part in parts for value in part], np.int64)
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    values, starts = take_ragged(flat, offsets, np.array(index, np.int64))
    chosen = [parts[each] for each in index]
    assert values.tolist() == [value for part in chosen for value in part]
    assert starts.tolist() == np.cumsum([0, *map(len, chosen)]).tolist()


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """A small split: users with a dense column, an id, two bags and a history of two columns."""
    users, samples, bags = draw(st.integers(1, 5)), draw(st.integers(1, 12)), 2
    bag_lengths = draw(st.lists(st.integers(0, 3), min_size=users * bags, max_size=users * bags))
    history_lengths = draw(st.lists(st.integers(0, 4), min_size=users, max_size=users))
    user_of = draw(st.lists(st.integers(0, users - 1), min_size=samples, max_size=samples))
    total, steps = sum(bag_lengths), sum(history_lengths)
    user = Rows(
        np.arange(users, dtype=np.float32)[:, None],
        np.arange(users, dtype=np.int64)[:, None] + 100,
        np.arange(total, dtype=np.int64) + 1_000,
        np.cumsum([0, *bag_lengths]).astype(np.int64),
    )
    item_ids = np.arange(samples, dtype=np.int64)[:, None] + 10_000
    item = Rows(np.zeros((samples, 0), np.float32), item_ids, np.zeros(0, np.int64), np.zeros(1, np.int64))
    return Split(
        user=user,
        item=item,
        history=np.arange(2 * steps, dtype=np.int64).reshape(steps, 2),
        history_offsets=np.cumsum([0, *history_lengths]).astype(np.int64),
        user_of=np.array(user_of, np.int64),
        labels=np.zeros(samples, np.float32),
        groups=np.array([0, samples], np.int64),
    )


def sample_view(split_or_batch: Split, sample: int) -> tuple[object, ...]:
    """Everything that one sample carries, as plain Python."""
    user = int(split_or_batch.user_of[sample])
    rows, offsets = split_or_batch.user, split_or_batch.history_offsets
    bags = [
        rows.bag_values[rows.bag_offsets[user * 2 + bag] : rows.bag_offsets[user * 2 + bag + 1]].tolist()
        for bag in range(2)
    ]
    history = split_or_batch.history[offsets[user] : offsets[user + 1]].tolist()
    item = split_or_batch.item.ids[sample].tolist()
    return rows.dense[user].tolist(), rows.ids[user].tolist(), bags, history, item


@given(splits(), st.data())
def test_batches_carry_what_their_samples_carry(split: Split, data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.integers(0, len(split) - 1), min_size=1, max_size=15)), np.int64)
    expected = [sample_view(split, sample) for sample in chosen]
    query, training = split.batch(chosen), split.training_batch(chosen)
    assert [sample_view(query, k) for k in range(len(chosen))] == expected  # type: ignore[arg-type]
    assert [sample_view(training, k) for k in range(len(chosen))] == expected  # type: ignore[arg-type]
    assert len(query.user) == len(set(split.user_of[chosen].tolist()))
    assert len(training.user) == len(chosen) == len(query) == len(training)


def test_a_span_of_rows_is_what_taking_them_gives() -> None:
    dense, ids = np.arange(8, dtype=np.float32).reshape(4, 2), np.arange(4).reshape(4, 1)
    offsets = np.array([0, 2, 2, 3, 6, 6, 6, 7, 9])
    for rows in (
        Rows(dense, ids, np.arange(9), offsets),
        Rows.empty(4),
        Rows(dense, ids, np.zeros(0, np.int64), offsets[:1]),
    ):
        for start, stop in ((0, 4), (1, 3), (3, 4), (2, 2)):
            span, taken = rows.span(start, stop), rows.take(np.arange(start, stop))
            for name in ("dense", "ids", "bag_values", "bag_offsets"):
                np.testing.assert_array_equal(getattr(span, name), getattr(taken, name))


def test_rows_without_columns_can_be_taken() -> None:
    taken = Rows.empty(1).take(np.zeros(4, np.int64))
    assert (len(taken), taken.ids.shape, taken.bags_per_row) == (4, (4, 0), 0)


def test_schema_survives_json() -> None:
    schema = Schema(
        name="s",
        dense=(DenseField(name="d", side="user", transform="log", mean=1.25, std=0.5),),
        ids=(
            IdField(name="u", side="user", column=0, table="u", rows=10),
            IdField(name="item", side="item", column=0, table="item", rows=20, hashed=False),
        ),
        bags=(BagField(name="b", side="item", column=0, table="b", rows=5, pooling="mean"),),
        history=(HistoryField(name="h", target="item", table="item", rows=20, hashed=False),),
        crosses=(CrossField(name="x", left="u", right="item", rows=7),),
        max_history=9,
    )
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.tables() == {"u": 10, "item": 20, "b": 5}


def test_one_table_cannot_have_two_sizes() -> None:
    fields = tuple(IdField(name=f"f{rows}", side="user", column=0, table="t", rows=rows) for rows in (3, 4))
    with pytest.raises(ValueError, match="3 and 4 rows"):
        Schema(name="s", ids=fields).tables()
