"""Small schemas and splits with every kind of column, made by hand so that the tests of the zoo need no data set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

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
    Split,
)

MIXED = Schema(
    name="mixed",
    dense=(
        DenseField(name="age", side="user", mean=3.0, std=2.0),
        DenseField(name="price", side="item", transform="log", mean=0.5, std=1.5),
        DenseField(name="rank", side="item"),
    ),
    ids=(
        IdField(name="city", side="user", column=0, table="city", rows=11),
        IdField(name="age_bucket", side="user", column=0, table="age_bucket", rows=8, source="bucket"),
        IdField(name="item", side="item", column=0, table="item", rows=37),
        IdField(name="category", side="item", column=1, table="category", rows=9, hashed=False),
    ),
    bags=(
        BagField(name="tags", side="user", column=0, table="tags", rows=13),
        BagField(name="badges", side="user", column=1, table="badges", rows=5, hashed=False, pooling="mean"),
        BagField(name="words", side="item", column=0, table="words", rows=17, pooling="mean"),
    ),
    history=(
        HistoryField(name="hist_item", target="item", table="item", rows=37),
        HistoryField(name="hist_category", target="category", table="category", rows=9, hashed=False),
    ),
    crosses=(CrossField(name="city_x_item", left="city", right="item", rows=29),),
    max_history=6,
)

POINTWISE = Schema(
    name="pointwise",
    dense=(DenseField(name="I1", side="item", transform="log"), DenseField(name="I2", side="item")),
    ids=(
        IdField(name="C1", side="item", column=0, table="C1", rows=19),
        IdField(name="C3", side="item", column=1, table="C3", rows=23),
        IdField(name="I1_bucket", side="item", column=0, table="I1_bucket", rows=12, source="bucket"),
    ),
    crosses=(CrossField(name="C1_x_C3", left="C1", right="C3", rows=31),),
)

SEQUENCE = Schema(
    name="sequence",
    ids=(
        IdField(name="user", side="user", column=0, table="user", rows=21, hashed=False),
        IdField(name="item", side="item", column=0, table="item", rows=37, hashed=False),
    ),
    history=(HistoryField(name="hist_item", target="item", table="item", rows=37, hashed=False),),
    max_history=5,
)

SCHEMAS = {"mixed": MIXED, "pointwise": POINTWISE, "sequence": SEQUENCE}


def _rows(schema: Schema, side: str, count: int, rng: np.random.Generator) -> Rows:
    dense = rng.normal(2.0, 3.0, (count, len(schema.dense_of(side)))).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    raw = [field for field in schema.ids_of(side) if field.source == "id"]
    columns = [_raw_ids(field.hashed, field.rows, count, rng) for field in raw]
    bags = schema.bags_of(side)
    lengths = rng.integers(0, 4, (count, len(bags)))
    values = [
        _raw_ids(field.hashed, field.rows, int(lengths[row, k]), rng)
        for row in range(count)
        for k, field in enumerate(bags)
    ]
    return Rows(
        dense,
        np.stack(columns, 1) if columns else np.zeros((count, 0), np.int64),
        np.concatenate([*values, np.zeros(0, np.int64)]),
        np.concatenate([[0], lengths.ravel().cumsum()]).astype(np.int64),
    )


def _raw_ids(hashed: bool, rows: int, count: int, rng: np.random.Generator) -> Int64:
    ids = rng.integers(0, 2**62 if hashed else rows, count)
    ids[rng.random(count) < 0.1] = MISSING_ID
    return ids


def make_split(schema: Schema, users: int, samples: int, seed: int, lengths: list[int] | None = None) -> Split:
    """Random columns of ``schema``; ``user_of`` covers every user; labels are coin flips."""
    rng = np.random.default_rng(seed)
    if lengths is None:
        lengths = rng.integers(0, schema.max_history + 1, users).tolist()
    if not schema.history:
        lengths = [0] * users
    total = sum(lengths)
    history = [_raw_ids(field.hashed, field.rows, total, rng) for field in schema.history]
    user_of = np.sort(np.concatenate([np.arange(users), rng.integers(0, users, samples - users)])).astype(np.int64)
    return Split(
        user=_rows(schema, "user", users, rng),
        item=_rows(schema, "item", samples, rng),
        history=np.stack(history, 1) if history else np.zeros((total, 0), np.int64),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_of=user_of,
        labels=rng.integers(0, 2, samples).astype(np.float32),
        groups=np.searchsorted(user_of, np.arange(users + 1)).astype(np.int64),
    )


@pytest.fixture(autouse=True)
def _one_thread_and_a_known_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(7)


@pytest.fixture
def mixed() -> Schema:
    """Every kind of column on both sides."""
    return MIXED


@pytest.fixture
def mixed_split() -> Split:
    """Three users, seven samples; the second user has no history."""
    return make_split(MIXED, 3, 7, seed=5, lengths=[6, 0, 3])


@pytest.fixture
def schemas() -> dict[str, Schema]:
    """``mixed``, ``pointwise`` (item side only, no history) and ``sequence``."""
    return SCHEMAS


@pytest.fixture
def random_split() -> Callable[..., Split]:
    """``make_split``: random columns of a schema."""
    return make_split
