"""A split on disk: what is mapped is what was written, and the first samples are the first samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoo.schema import Batch, Rows, Schema, Split
from zoo.split_file import first_samples, map_split, write_split


def columns(batch: Batch) -> list[np.ndarray]:
    rows = [getattr(side, field.name) for side in (batch.user, batch.item) for field in dataclasses.fields(Rows)]
    return [*rows, batch.history, batch.history_offsets]


@pytest.mark.parametrize("name", ["mixed", "pointwise", "sequence"])
def test_what_is_mapped_is_what_was_written(
    name: str, schemas: dict[str, Schema], random_split: Callable[..., Split], tmp_path: Path
) -> None:
    split = random_split(schemas[name], 12, 40, seed=1)
    split = dataclasses.replace(split, probability=np.full(40, 0.5, np.float32))
    write_split(tmp_path / "split.npz", split)
    read = map_split(tmp_path / "split.npz")
    assert read.probability is None
    for field in ("labels", "groups", "user_of"):
        np.testing.assert_array_equal(getattr(read, field), getattr(split, field))
    for one, other in zip(*(columns(each.training_batch(np.arange(40))) for each in (read, split)), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert not read.labels.flags.writeable


def test_first_samples_are_the_first_with_their_users(
    schemas: dict[str, Schema], random_split: Callable[..., Split]
) -> None:
    split = random_split(schemas["mixed"], 12, 40, seed=1)
    assert first_samples(split, 40) is split
    first = first_samples(split, 11)
    assert len(first) == 11 and first.labels.tolist() == split.labels[:11].tolist()
    for one, other in zip(*(columns(each.training_batch(np.arange(11))) for each in (first, split)), strict=True):
        np.testing.assert_array_equal(one, other)
