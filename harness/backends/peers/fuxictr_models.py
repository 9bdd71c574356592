"""FuxiCTR's own DIN and DIEN (``model_zoo.LongCTR``) at the sizes of ours; its package brings no WDL and no DLRM.

Sizes are ours, DIEN's attention is the one that has layers ("din_attention"); everything else is its own default.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.backends.peers.sample_matrix import STEPS, Longest, Places, SampleMatrix, history_widths, side_widths
from zoo.blueprint import field_dim
from zoo.configs import DienConfig, DinConfig, ModelConfig
from zoo.schema import BagField, Float32, IdField, Schema

LABEL, NAME = "label", "recarena"
OPTIMIZER, LOSS, METRIC = "adam", "binary_crossentropy", "AUC"
FEWEST_ROWS = 2
"""Its DIEN drops the dimension of a batch of one row."""
ONE_STEP = 1
"""What its DIEN needs of some history of a batch, and so of every one."""
Inputs = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]
"""As its models take them: columns of the sample, those of behaviours with the target behind them, and a mask."""


def build(config: ModelConfig, schema: Schema, longest: Longest, folder: Path) -> Any:
    """Its model of ``config``, freshly initialised; checkpoints go to ``folder``. ValueError for another model."""
    zoo = importlib.import_module("model_zoo.LongCTR")
    features = _feature_map(config, schema, longest)
    common = {
        **{"optimizer": OPTIMIZER, "loss": LOSS, "metrics": [METRIC], "verbose": 0, "model_root": str(folder)},
        **{"embedding_dim": config.embedding_dim},
    }
    if isinstance(config, DinConfig):
        sizes = {"dnn_hidden_units": list(config.top_units), "attention_hidden_units": list(config.attention_units)}
        return zoo.DIN(features, **sizes, **common)
    if isinstance(config, DienConfig):
        sizes = {"dnn_hidden_units": list(config.top_units), "attention_hidden_units": list(config.attention_units)}
        return zoo.DIEN(features, attention_type="din_attention", **sizes, **common)
    raise ValueError(f"FuxiCTR's package has no {config.name}")


class ModelInputs:
    """A matrix of samples (``SampleMatrix`` at ``places``) as the tensors that its models take."""

    def __init__(self, schema: Schema, longest: Longest) -> None:
        widths = [*side_widths(schema, "user", longest), *side_widths(schema, "item", longest)]
        widths += history_widths(schema)
        ends = np.cumsum([0, *(width for _, width in widths)]).tolist()
        self.places: Places = dict(zip([name for name, _ in widths], pairwise(ends), strict=True))
        self._targets = [field.target for field in schema.history]
        counted = {f"{bag.name}_length" for bag in schema.bags}
        own = {*self._targets, *(f"hist_{target}" for target in self._targets), *counted, STEPS}
        self._single = [name for name in self.places if name not in own]
        self._steps = np.arange(schema.max_history)

    def matrix(self, schema: Schema, longest: Longest) -> SampleMatrix:
        """What makes the matrix of a batch."""
        return SampleMatrix(schema, longest, self.places, ONE_STEP)

    def __call__(self, rows: Float32, labels: Float32 | None = None) -> Inputs:
        """rows: [N, columns]; labels [N] are put among the columns of the sample."""
        columns = {name: torch.from_numpy(np.ascontiguousarray(self._of(rows, name))) for name in self._single}
        columns = {name: values.squeeze(1) if values.shape[1] == 1 else values for name, values in columns.items()}
        if labels is not None:
            columns[LABEL] = torch.from_numpy(labels)
        behaviours = {
            target: torch.from_numpy(
                np.concatenate([self._of(rows, f"hist_{target}"), self._of(rows, target)], 1).ravel()
            )
            for target in self._targets
        }
        mask = torch.from_numpy((self._steps < self._of(rows, STEPS)).astype(np.int64))
        return columns, behaviours, mask

    def _of(self, rows: Float32, name: str) -> Float32:
        first, end = self.places[name]
        return rows[:, first:end]


def _feature_map(config: ModelConfig, schema: Schema, longest: Longest) -> Any:
    """Its description of the columns, made by hand: the data are prepared already."""
    found = importlib.import_module("fuxictr.features").FeatureMap(NAME, "")
    targets = {field.target for field in schema.history}
    features: OrderedDict[str, dict[str, Any]] = OrderedDict()
    first: dict[str, str] = {}
    for dense in schema.dense:
        features[dense.name] = {"type": "numeric", "source": ""}
    fields: tuple[IdField | BagField, ...] = (*schema.ids, *schema.bags)
    for field in fields:
        spec: dict[str, Any] = {"vocab_size": field.rows, "embedding_dim": field_dim(config, field.name)}
        spec["source"] = "item" if field.name in targets else ""
        if isinstance(field, BagField):
            pooling = "MaskedSumPooling" if field.pooling == "sum" else "MaskedAveragePooling"
            spec |= {"type": "sequence", "max_len": longest[field.name], "padding_idx": 0}
            spec["feature_encoder"] = f"layers.{pooling}()"
        else:
            spec["type"] = "categorical"
        if field.table in first:
            spec["share_embedding"] = first[field.table]
        first.setdefault(field.table, field.name)
        features[field.name] = spec
    found.features, found.labels, found.default_emb_dim = features, [LABEL], config.embedding_dim
    found.num_fields = found.get_num_fields()
    return found
