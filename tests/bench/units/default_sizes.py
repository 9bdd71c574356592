"""The models' default sizes on the built-in data, and batches of it."""

from __future__ import annotations

import functools

import numpy as np

from harness.edge.trial_builder import default_cache_dir
from zoo.blueprint import Block, describe
from zoo.configs import NEEDS_HISTORY, model_config
from zoo.datasets import load_dataset
from zoo.layers.features import to_tensors
from zoo.layers.tensors import RawTensors
from zoo.schema import Dataset

TABLE_ROWS = 10_000
"""Rows of each hashed table at ``dataset.size=default``."""
MOST_SAMPLES = 100
"""Candidates that a user of the built-in data has."""


@functools.cache
def planted(shape: str) -> Dataset:
    """Few samples under the default schema of ``shape`` (pointwise or sequence)."""
    options = {"shape": shape, "size": "tiny", "table_rows": TABLE_ROWS}
    return load_dataset("planted", options, default_cache_dir())


def query(shape: str, samples: int) -> RawTensors:
    """One user and ``samples`` candidates."""
    return to_tensors(planted(shape).test.batch(np.arange(samples)))


def block(model: str, path: str) -> Block:
    """The block at ``path`` of a model of default size."""
    schema = planted("sequence" if model in NEEDS_HISTORY else "pointwise").schema
    return next(found for found in describe(model_config(model, {}), schema) if found.path == path)


def sizes(found: Block) -> dict[str, int]:
    """The block's named sizes."""
    return dict(found.shape)
