"""Cut and join served batches, as the dispatcher's splitting and merging do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.schema import Batch, Int64, Rows, take_ragged


def cut_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Samples [start, stop) with the users that they need, in order of first index; what can be a view is one."""
    item = batch.item.span(start, stop)
    if len(batch.history_offsets) == 2:
        return Batch(batch.user, item, batch.history, batch.history_offsets, batch.user_of[start:stop])
    users, user_of = np.unique(batch.user_of[start:stop], return_inverse=True)
    user, history, history_offsets = batch.user, batch.history, batch.history_offsets
    if len(users) != len(batch.history_offsets) - 1:
        user = user.take(users)
        history, history_offsets = take_ragged(batch.history, batch.history_offsets, users)
    return Batch(user, item, history, history_offsets, user_of.astype(np.int64))


def join_batches(batches: Sequence[Batch]) -> Batch:
    """All samples of all batches, in order; users stand side by side and ``user_of`` is shifted."""
    if len(batches) == 1:
        return batches[0]
    users = np.cumsum([0, *(len(batch.history_offsets) - 1 for batch in batches)])
    return Batch(
        _join_rows([batch.user for batch in batches]),
        _join_rows([batch.item for batch in batches]),
        np.concatenate([batch.history for batch in batches]),
        _join_offsets([batch.history_offsets for batch in batches]),
        np.concatenate([batch.user_of + shift for batch, shift in zip(batches, users[:-1], strict=True)]),
    )


def _join_rows(parts: list[Rows]) -> Rows:
    return Rows(
        np.concatenate([rows.dense for rows in parts]),
        np.concatenate([rows.ids for rows in parts]),
        np.concatenate([rows.bag_values for rows in parts]),
        _join_offsets([rows.bag_offsets for rows in parts]),
    )


def _join_offsets(parts: list[Int64]) -> Int64:
    lengths = np.concatenate([np.diff(offsets) for offsets in parts])
    joined = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=joined[1:])
    return joined
