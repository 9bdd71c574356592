"""The arguments of an exported graph: their names, and the arrays of a batch under them. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.schema import MISSING_ID, Batch, Int64

COLUMNS = ("dense", "ids", "bag_values", "bag_offsets")
"""Of ``zoo.schema.Rows``."""
INPUTS = (
    *(f"{side}_{column}" for side in ("user", "item") for column in COLUMNS),
    *("history", "history_lengths", "user_of"),
)
"""Names of a graph's arguments, in order; a graph lacks those that its model does not read."""
OUTPUT = "scores"
Feed = dict[str, npt.NDArray[Any]]


def raw_arrays(batch: Batch) -> Feed:
    """The arguments by name, raw: all but the histories as they lie in ``batch``.

    history [U, T, H] int64 is padded with MISSING_ID, T = max(1, longest): an empty one is one masked step, since a
    graph's recurrence needs a step. history_lengths [U] int64 may be 0.
    """
    columns = [getattr(rows, column) for rows in (batch.user, batch.item) for column in COLUMNS]
    history, lengths = padded(batch.history, batch.history_offsets)
    return dict(zip(INPUTS, (*columns, history, lengths, batch.user_of), strict=True))


def padded(history: Int64, offsets: Int64) -> tuple[Int64, Int64]:
    """Flat ``history`` [total, H] as ([U, T, H], lengths [U]); views where there is one user with behaviours."""
    if len(offsets) == 2 and len(history):
        return history[np.newaxis], offsets[1:]
    lengths = np.diff(offsets)
    steps = max(1, int(lengths.max()))
    rows = np.full((len(lengths), steps, history.shape[1]), MISSING_ID, np.int64)
    rows[np.arange(steps) < lengths[:, np.newaxis]] = history
    return rows, lengths
