from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.layers.features import FeatureTransform, bucket_rows, expand, hash_ids, normalise, to_tensors
from zoo.schema import MISSING_ID, DenseField, Schema, Split, hash_rows


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
    field = DenseField(name="x", side="item", transform="log", mean=0.5, std=2.0)
    got = normalise(torch.tensor([float("nan"), math.e - 1, 1 - math.e, 0.0]), field)
    np.testing.assert_allclose(got.numpy(), [0.0, 0.25, -0.75, -0.25], atol=1e-7)


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


def test_id_outside_its_table_is_named(mixed: Schema, mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(7))
    batch.item.ids[2, 1] = 9
    with pytest.raises(IndexError, match=r"'category'.* 9;.*\[0, 9\)"):
        FeatureTransform(mixed)(to_tensors(batch))
    batch.item.ids[2, 1] = -2
    with pytest.raises(IndexError, match=r"'category'.* -2;"):
        FeatureTransform(mixed)(to_tensors(batch))


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
