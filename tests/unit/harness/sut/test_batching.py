"""Cutting and joining batches against a plain description of every sample."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from harness.sut.batching import cut_batch, join_batches
from zoo.schema import Batch, Rows, Split


def _row(rows: Rows, index: int) -> tuple[Any, ...]:
    bags = rows.bags_per_row
    bounds = rows.bag_offsets[index * bags : (index + 1) * bags + 1]
    values = [rows.bag_values[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    return rows.dense[index].tolist(), rows.ids[index].tolist(), values


def _samples(batch: Batch) -> list[tuple[Any, ...]]:
    """Everything that each sample of the batch consists of."""
    found = []
    for index, user in enumerate(batch.user_of.tolist()):
        low, high = batch.history_offsets[user], batch.history_offsets[user + 1]
        found.append((_row(batch.user, user), _row(batch.item, index), batch.history[low:high].tolist()))
    return found


def test_cutting_keeps_every_sample_and_drops_strangers(split: Split) -> None:
    batch = split.batch(np.array([0, 1, 250, 251, 600, 2, 252]))
    whole = _samples(batch)
    for start in range(7):
        for stop in range(start + 1, 8):
            part = cut_batch(batch, start, stop)
            assert _samples(part) == whole[start:stop]
            assert len(part.history_offsets) - 1 == len(set(batch.user_of[start:stop].tolist()))


def test_cutting_a_query_of_one_user_copies_neither_user_nor_items(split: Split) -> None:
    batch = split.batch(np.arange(240, 270))
    whole = _samples(batch)
    for start, stop in ((0, 30), (0, 1), (7, 20), (29, 30)):
        part = cut_batch(batch, start, stop)
        assert _samples(part) == whole[start:stop]
        assert part.history is batch.history and np.shares_memory(part.item.ids, batch.item.ids)


def test_joining_concatenates_samples(split: Split) -> None:
    parts = [split.batch(np.arange(a, b)) for a, b in ((0, 3), (119, 122), (700, 701), (0, 3))]
    joined = join_batches(parts)
    assert _samples(joined) == [sample for part in parts for sample in _samples(part)]
    assert len(joined.user) == sum(len(part.user) for part in parts)


def test_joining_one_batch_is_free(split: Split) -> None:
    batch = split.batch(np.arange(4))
    assert join_batches([batch]) is batch


def test_cutting_undoes_joining(split: Split) -> None:
    first, second = split.batch(np.arange(5, 9)), split.batch(np.arange(300, 310))
    joined = join_batches([first, second])
    assert _samples(cut_batch(joined, 0, 4)) == _samples(first)
    assert _samples(cut_batch(joined, 4, 14)) == _samples(second)
