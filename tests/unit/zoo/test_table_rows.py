"""Table rows by numpy are those of the PyTorch reference, refusals included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.layers.features import FeatureTransform, TableRows, to_tensors
from zoo.layers.features import bucket_rows as torch_bucket_rows
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import MISSING_ID, IdField, Schema, Split, hash_rows
from zoo.table_rows import TableLookup, bucket_rows, hashed_rows

HASHED = IdField(name="hashed", side="item", column=0, table="hashed", rows=11)
PLAIN = IdField(name="plain", side="item", column=1, table="plain", rows=7, hashed=False)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40))
def test_the_hash_is_that_of_the_schema_for_each_table(raw: list[int]) -> None:
    ids = np.array([*raw, MISSING_ID, 0], np.int64)
    sizes = np.array([2, 11, 2**31 - 1])
    rows = hashed_rows(np.stack([ids] * 3, 1), sizes)
    assert rows.T.tolist() == [hash_rows(ids, int(size)).tolist() for size in sizes]


@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=50), st.integers(4, 200))
def test_buckets_are_those_of_the_reference(values: list[float], rows: int) -> None:
    x = np.array(values, np.float32)
    assert bucket_rows(x, rows).tolist() == torch_bucket_rows(torch.from_numpy(x), rows).tolist()


@pytest.mark.parametrize("raw", [[[5, 7]], [[5, 3], [1, -2]], [[-9, 6], [2**60, MISSING_ID]]])
def test_an_id_outside_its_table_is_refused_as_by_the_reference(raw: list[list[int]]) -> None:
    ids, told = np.array(raw, np.int64), []
    for rows in (TableLookup([HASHED, PLAIN]).rows, lambda x: TableRows([HASHED, PLAIN])(torch.from_numpy(x)).numpy()):
        try:
            told.append(rows(ids).tolist())
        except IndexError as error:
            told.append(str(error))
    assert told[0] == told[1] and isinstance(told[0], str) == (raw[-1][1] in (7, -2))


def test_the_arguments_are_the_rows_of_the_features_block(mixed: Schema, mixed_split: Split) -> None:
    batch = mixed_split.batch(np.arange(7))
    got, features = RowArrays(mixed)(batch), FeatureTransform(mixed)(to_tensors(batch))
    assert got["user_ids"].tolist() == features.user.rows.tolist()
    assert got["item_ids"].tolist() == torch.cat((features.item.rows, features.crosses), 1).tolist()
    for side, found in (("user", features.user), ("item", features.item)):
        assert got[f"{side}_bag_values"].tolist() == found.bag_rows.tolist()
    assert got["history"].tolist() == features.history.tolist()
    assert got["history_lengths"].tolist() == features.lengths.tolist() == [6, 0, 3]


def test_schemas_without_users_bags_or_histories(
    schemas: dict[str, Schema], random_split: Callable[..., Split]
) -> None:
    for schema in schemas.values():
        batch = random_split(schema, 4, 9, seed=2).batch(np.arange(9))
        got, features = RowArrays(schema)(batch), FeatureTransform(schema)(to_tensors(batch))
        assert got["item_ids"].tolist() == torch.cat((features.item.rows, features.crosses), 1).tolist()
        assert got["history"].shape == tuple(features.history.shape)
