"""A rank's model: the reference's, with this rank's rows in place of whole tables, under the reference's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch

from optimizations.sharded_embedding.row_plan import own_rows, rank_schema, table_rows
from zoo.checkpoint import check_weights
from zoo.configs import ModelConfig
from zoo.layers.features import FeatureTransform
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.schema import Schema


def rank_model(
    config: ModelConfig, schema: Schema, start: Mapping[str, npt.NDArray[Any]], seed: int, rank: int, ranks: int
) -> CtrModel:
    """The model before its first step. No table is in memory as a whole: of ``start``, which may be mapped, only the
    rank's own rows are read. ``seed``: of what is random from here on, another one on each rank.

    Raises ValueError where ``start`` does not fit the model.
    """
    model, rows = build_model(config, rank_schema(schema, rank, ranks)), table_rows(schema)
    model.features = FeatureTransform(schema)  # rows are hashed to whole tables
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    whole = {name: (rows[name], *value.shape[1:]) if name in rows else value.shape for name, value in state.items()}
    optional = [name for name in state if name.split(".")[0] in model.training_only]
    check_weights(start, whole, optional)
    for name, value in state.items():
        if name not in start:
            continue
        own = own_rows(rows[name], rank, ranks) if name in rows else None
        if own is None:
            value[...] = start[name]
        else:
            value[: len(own)] = start[name][own.start : own.stop]
    torch.manual_seed(seed * ranks + rank)
    return model
