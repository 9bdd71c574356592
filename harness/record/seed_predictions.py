"""Test scores of trainings with several seeds, as columns of ``predictions.parquet`` and back. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.schema import Float32

Scores = Mapping[tuple[str, int], Float32]
"""By side and seed, the scores of all test samples [N]."""


def prediction_columns(labels: Float32, scores: Scores) -> dict[str, npt.NDArray[Any]]:
    """The columns of ``predictions.parquet``: ``run`` is "test, seed 3"."""
    keys: Sequence[tuple[str, int]] = list(scores)
    count = len(labels)
    return {
        "side": np.repeat(np.array([side for side, _ in keys], str), count),
        "run": np.repeat(np.array([run_of(seed) for _, seed in keys], str), count),
        "sample_id": np.tile(np.arange(count, dtype=np.int64), len(keys)),
        "score": np.concatenate([scores[key] for key in keys]) if keys else np.zeros(0, np.float32),
        "label": np.tile(labels, len(keys)).astype(np.float32),
    }


def run_of(seed: int) -> str:
    """Name of the predictions of a seed."""
    return f"test, seed {seed}"


def scores_of(columns: Mapping[str, npt.NDArray[Any]]) -> tuple[Float32, Scores]:
    """Labels [N] and scores from the columns. Raises ValueError where samples are missing or labels differ."""
    found: dict[tuple[str, int], Float32] = {}
    labels = np.zeros(0, np.float32)
    for side in dict.fromkeys(columns["side"].tolist()):
        for run in dict.fromkeys(columns["run"].tolist()):
            own = (columns["side"] == side) & (columns["run"] == run)
            if not own.any():
                continue
            if not np.array_equal(columns["sample_id"][own], np.arange(own.sum())):
                raise ValueError(f"predictions.parquet: {side}, {run}: samples are missing or out of order")
            theirs = columns["label"][own]
            if found and not np.array_equal(theirs, labels, equal_nan=True):
                raise ValueError(f"predictions.parquet: {side}, {run}: labels differ from those of another run")
            labels = theirs
            seed = run.rpartition(" ")[2]
            if run_of(int(seed)) != run:
                raise ValueError(f"predictions.parquet: {run!r} is no run of a training")
            found[side, int(seed)] = columns["score"][own]
    return labels, found
