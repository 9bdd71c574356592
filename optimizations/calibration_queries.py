"""Queries made of calibration rows: what is timed before a system serves."""

from __future__ import annotations

import numpy as np

from zoo.schema import Batch


def query_of(rows: Batch, number: int, size: int) -> Batch:
    """A query of ``size`` samples of one user, both from ``rows``; others for another ``number``."""
    user = number % (len(rows.history_offsets) - 1)
    first, last = rows.history_offsets[user : user + 2]
    return Batch(
        rows.user.take(np.array([user])),
        rows.item.take((np.arange(size) + number) % len(rows)),
        rows.history[first:last],
        np.array([0, last - first], np.int64),
        np.zeros(size, np.int64),
    )
