"""Raw columns of one side, drawn at random: missing floats, missing ids, empty bags."""

from __future__ import annotations

import numpy as np

from zoo.schema import Rows


def draw_rows(rng: np.random.Generator, count: int, dense: int, ids: int, bags: int) -> Rows:
    """``count`` rows with so many columns of each kind; bags of up to four values."""
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 5, count * bags))]).astype(np.int64)
    columns = rng.normal(size=(count, dense)).astype(np.float32)
    columns[rng.random((count, dense)) < 0.2] = np.nan
    return Rows(columns, rng.integers(-1, 2**62, (count, ids)), rng.integers(0, 9, offsets[-1]), offsets)
