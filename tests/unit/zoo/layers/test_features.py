from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.layers.features import FeatureTransform, bucket_rows, expand, hash_ids, normalise, to_tensors
from zoo.schema import (
    MISSING_ID,
    BagField,
    CrossField,
    DenseField,
    HistoryField,
    IdField,
    Int64,
    Rows,
    Schema,
    Side,
    Split,
    hash_rows,
)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40), st.integers(2, 2**31 - 1))
def test_hash_is_that_of_the_schema(raw: list[int], rows: int) -> None:
    ids = np.array([*raw, MISSING_ID, 0], np.int64)
    assert hash_ids(torch.from_numpy(ids), rows).tolist() == hash_rows(ids, rows).tolist()


def test_hash_by_hand() -> None:
    # (7 * 0x9E3779B97F4A7C15 mod 2**64) >> 33, in Python's unbounded integers
    mixed = (7 * 0x9E3779B97F4A7C15 % 2**64) >> 33
    assert hash_ids(torch.tensor([7, -1]), 1000).tolist() == [1 + mixed % 999, 0]


def _bucket(x: float, rows: int) -> int:
    if math.isnan(x):
        return 0
    if x == 0:
        return 1
    if x < 0:
        return 2
    return min(3 + math.floor(math.log(1 + x) ** 2), rows - 1)


@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=50), st.integers(4, 200))
def test_buckets(values: list[float], rows: int) -> None:
    x = np.array(values, np.float32)
    assert bucket_rows(torch.from_numpy(x), rows).tolist() == [_bucket(float(v), rows) for v in x]


def test_buckets_of_known_values() -> None:
    x = torch.tensor([float("nan"), 0.0, -4.0, 1.0, 2.0, 10.0, 1e9])
    # log(2)^2 = 0.48, log(3)^2 = 1.21, log(11)^2 = 5.75, log(1e9)^2 = 429
    assert bucket_rows(x, 50).tolist() == [0, 1, 2, 3, 4, 8, 49]


def test_normalise_fills_and_scales() -> None:
    x = torch.tensor([float("nan"), math.e - 1, 1 - math.e, 0.0, math.inf])
    mean, std, logarithmic = torch.tensor([0.5, 1.0]), torch.tensor([2.0, 4.0]), torch.tensor([True, False])
    got = normalise(torch.stack((x, x), 1), mean, std, logarithmic)
    np.testing.assert_allclose(got[:, 0].numpy(), [0.0, 0.25, -0.75, -0.25, math.inf], atol=1e-7)
    np.testing.assert_allclose(got[:, 1].numpy(), [0.0, (math.e - 2) / 4, -math.e / 4, -0.25, math.inf], atol=1e-7)


def test_every_id_has_a_table_of_its_own_size() -> None:
    ids = torch.tensor([[7, 7, -1], [8, 7, 8]])
    wanted = np.stack([hash_rows(ids[:, k].numpy(), rows) for k, rows in enumerate((11, 1000, 3))], 1)
    assert hash_ids(ids, torch.tensor([11, 1000, 3])).tolist() == wanted.tolist()
    assert bucket_rows(torch.tensor([[1e9, 1e9]]), torch.tensor([5, 50])).tolist() == [[4, 49]]


def test_transform_against_loops(mixed: Schema, mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(7))
    got = FeatureTransform(mixed)(to_tensors(batch))
    city = hash_rows(batch.user.ids[:, 0], 11)
    bucket = [_bucket(float(v), 8) for v in batch.user.dense[:, 0]]
    np.testing.assert_array_equal(got.user.rows.numpy(), np.column_stack([city, bucket]))
    item = hash_rows(batch.item.ids[:, 0], 37)
    category = np.maximum(batch.item.ids[:, 1], 0)
    np.testing.assert_array_equal(got.item.rows.numpy(), np.column_stack([item, category]))
    cross = hash_rows(city[batch.user_of] * 2**31 + item, 29)
    np.testing.assert_array_equal(got.crosses.numpy()[:, 0], cross)
    for index, value in enumerate(batch.user.bag_values):
        bag = np.searchsorted(batch.user.bag_offsets, index, side="right") - 1
        row = hash_rows(np.array([value]), 13)[0] if bag % 2 == 0 else max(value, 0)
        assert got.user.bag_rows[index] == row
    for user in range(len(batch.user)):
        begin, end = batch.history_offsets[user : user + 2]
        own = batch.history[begin:end]
        assert got.lengths[user] == end - begin
        np.testing.assert_array_equal(got.history[user, : end - begin, 0].numpy(), hash_rows(own[:, 0], 37))
        np.testing.assert_array_equal(got.history[user, : end - begin, 1].numpy(), np.maximum(own[:, 1], 0))
        assert not got.history[user, end - begin :].any()


SHUFFLED = Schema(
    name="shuffled",
    dense=(
        DenseField(name="a", side="user", mean=1.5, std=0.5),
        DenseField(name="b", side="user", transform="log", mean=0.25, std=2.0),
        DenseField(name="c", side="item", transform="log"),
    ),
    ids=(
        IdField(name="b_bucket", side="user", column=1, table="b_bucket", rows=6, source="bucket"),
        IdField(name="second", side="user", column=1, table="second", rows=10, hashed=False),
        IdField(name="a_bucket", side="user", column=0, table="a_bucket", rows=40, source="bucket"),
        IdField(name="first", side="user", column=0, table="first", rows=23),
        IdField(name="plain", side="item", column=0, table="plain", rows=10, hashed=False),
        IdField(name="again", side="item", column=0, table="again", rows=3),
    ),
    bags=tuple(
        BagField(name=name, side="item", column=k, table=name, rows=rows, hashed=hashed)
        for k, (name, rows, hashed) in enumerate((("x", 9, True), ("y", 10, False), ("z", 31, True)))
    ),
    history=(
        HistoryField(name="h_plain", target="plain", table="plain", rows=10, hashed=False),
        HistoryField(name="h_again", target="again", table="again", rows=3),
    ),
    crosses=(
        CrossField(name="across", left="plain", right="first", rows=101),
        CrossField(name="within", left="b_bucket", right="second", rows=7),
    ),
)
"""Buckets between ids, raw columns in another order than fields, a raw column of two fields, a cross of one side."""


def _table_row(field: IdField | BagField | HistoryField, raw: Int64) -> Int64:
    return hash_rows(raw, field.rows) if field.hashed else np.where(raw == MISSING_ID, 0, raw)


def _id_rows(schema: Schema, side: Side, rows: Rows) -> dict[str, Int64]:
    return {
        field.name: np.array([_bucket(float(x), field.rows) for x in rows.dense[:, field.column]])
        if field.source == "bucket"
        else _table_row(field, rows.ids[:, field.column])
        for field in schema.ids_of(side)
    }


def _dense(field: DenseField, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x = np.sign(x) * np.log(1 + np.abs(x)) if field.transform == "log" else x
    return np.where(np.isnan(x), 0.0, (x - field.mean) / field.std)


@pytest.mark.parametrize("seed", [1, 2])
def test_transform_field_by_field(seed: int, random_split: Callable[..., Split]) -> None:
    batch = random_split(SHUFFLED, 6, 50, seed).batch(np.arange(50))
    batch.user.ids[:] = batch.user.ids[:, ::-1].copy()  # they were drawn in the order of the fields
    got = FeatureTransform(SHUFFLED)(to_tensors(batch))
    columns: dict[str, Int64] = {}
    for side, rows, features in (("user", batch.user, got.user), ("item", batch.item, got.item)):
        ids = _id_rows(SHUFFLED, side, rows)
        assert features.rows.tolist() == np.stack(list(ids.values()), 1).tolist() and features.rows.is_contiguous()
        dense = [_dense(field, rows.dense[:, k]) for k, field in enumerate(SHUFFLED.dense_of(side))]
        np.testing.assert_allclose(features.dense.numpy(), np.stack(dense, 1), rtol=1e-6, atol=1e-6)
        columns |= {name: column[batch.user_of] if side == "user" else column for name, column in ids.items()}
    bag_of = np.repeat(np.arange(len(batch.item.bag_offsets) - 1), np.diff(batch.item.bag_offsets)) % 3
    bags = [_table_row(field, batch.item.bag_values) for field in SHUFFLED.bags]
    assert got.item.bag_rows.tolist() == np.choose(bag_of, bags).tolist()
    history = [_table_row(field, batch.history[:, k]) for k, field in enumerate(SHUFFLED.history)]
    steps = np.arange(got.history.shape[1]) < got.lengths.numpy()[:, None]
    assert got.history.numpy()[steps].tolist() == np.stack(history, 1).tolist()
    for k, field in enumerate(SHUFFLED.crosses):
        pair = columns[field.left] * 2**31 + columns[field.right]
        assert got.crosses[:, k].tolist() == hash_rows(pair, field.rows).tolist()


def test_id_outside_its_table_is_named(mixed: Schema, mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(7))
    batch.item.ids[2, 1] = 9
    with pytest.raises(IndexError, match=r"'category'.* 9;.*\[0, 9\)"):
        FeatureTransform(mixed)(to_tensors(batch))
    batch.item.ids[2, 1] = -2
    with pytest.raises(IndexError, match=r"'category'.* -2;"):
        FeatureTransform(mixed)(to_tensors(batch))


@pytest.mark.parametrize("found", [5, -2, 2**63 - 1, -(2**63)])
def test_bag_value_outside_its_table_is_named(found: int, mixed: Schema, mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(7))
    tags, badges = (np.flatnonzero(np.diff(batch.user.bag_offsets)[k::2])[0] * 2 + k for k in (0, 1))
    batch.user.bag_values[batch.user.bag_offsets[tags]] = found  # any number is an id of a field that is hashed
    FeatureTransform(mixed)(to_tensors(batch))
    batch.user.bag_values[batch.user.bag_offsets[badges]] = found
    with pytest.raises(IndexError, match=rf"'badges' got the raw id {found};.*\[0, 5\)"):
        FeatureTransform(mixed)(to_tensors(batch))


def test_sizes_and_scales_are_no_weights_and_move_with_the_model(mixed: Schema) -> None:
    transform = FeatureTransform(mixed)
    assert not transform.state_dict()
    assert {constant.device.type for constant in transform.to("meta").buffers()} == {"meta"}


def test_history_id_outside_its_table_is_named(mixed: Schema, mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(7))
    batch.history[-1, 1] = 99
    with pytest.raises(IndexError, match="'hist_category'"):
        FeatureTransform(mixed)(to_tensors(batch))


def test_expand_equals_one_user_row_per_sample(mixed_split: Split) -> None:
    samples = np.array([6, 0, 3, 3, 5])
    got = expand(to_tensors(mixed_split.batch(samples)))
    wanted = to_tensors(mixed_split.training_batch(samples))
    assert got.user_of is None
    for ours, theirs in zip((*got.user, got.history, got.history_offsets), (*wanted.user, *wanted[2:4]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_tensors_share_the_memory_of_the_arrays(mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(3))
    raw = to_tensors(batch)
    batch.item.ids[0, 0] = 12345
    assert raw.item.ids[0, 0] == 12345
