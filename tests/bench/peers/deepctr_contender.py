"""deepctr-torch: its own WDL, DIN and DIEN at the sizes of ours, with weights of its own. It has no DLRM."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.bench.peers.contender import Contender, UnfitError
from tests.bench.peers.workload import HISTORY, Workload
from zoo.blueprint import field_dim
from zoo.layers.features import expand, to_tensors
from zoo.layers.ragged import pad_segments
from zoo.schema import BagField, Batch, Float32

LONGEST_BAG = 32
"""Columns of a bag at most; deepctr-torch lays a row's values side by side in one matrix of floats."""


def deepctr(workload: Workload, threads: int, folder: Path) -> Contender:
    """Scores from its matrix of engineered columns, one row per candidate; making that matrix is not in its time."""
    name = workload.config.name
    if name not in _MODELS:
        raise UnfitError(f"deepctr-torch has no {name.upper()}")
    inputs = importlib.import_module("deepctr_torch.inputs")
    columns = _columns(workload, inputs)
    model = _MODELS[name](workload, columns).eval()
    order = list(model.feature_index)

    def predict(matrix: Any) -> Float32:
        with torch.inference_mode():
            scores: Float32 = model(torch.from_numpy(matrix)).squeeze(1).numpy()
        return scores

    def prepare(batch: Batch) -> Any:
        found = _values(workload, batch)
        return np.concatenate([found[column] for column in order], 1)

    return Contender(predict=predict, prepare=prepare, tolerance=None, note="weights of its own")


def _columns(workload: Workload, inputs: Any) -> list[Any]:
    schema, config = workload.dataset.schema, workload.config
    longest = _longest_bags(workload)
    found = [inputs.DenseFeat(field.name, 1) for field in schema.dense]
    for field in schema.ids:
        found.append(
            inputs.SparseFeat(field.name, field.rows, field_dim(config, field.name), embedding_name=field.table)
        )
    for bag in schema.bags:
        one = inputs.SparseFeat(bag.name, bag.rows, field_dim(config, bag.name), embedding_name=bag.table)
        found.append(inputs.VarLenSparseFeat(one, longest[bag.name], bag.pooling, length_name=f"{bag.name}_length"))
    for past in schema.history:
        one = inputs.SparseFeat(
            f"hist_{past.target}", past.rows, field_dim(config, past.target), embedding_name=past.table
        )
        found.append(inputs.VarLenSparseFeat(one, HISTORY, "sum", length_name="history_steps"))
    return found


def _wdl(workload: Workload, columns: list[Any]) -> Any:
    models = importlib.import_module("deepctr_torch.models")
    return models.WDL(columns, columns, dnn_hidden_units=workload.config.deep_units)


def _din(workload: Workload, columns: list[Any]) -> Any:
    models = importlib.import_module("deepctr_torch.models")
    config: Any = workload.config
    return models.DIN(
        columns,
        [past.target for past in workload.dataset.schema.history],
        dnn_hidden_units=config.top_units,
        att_hidden_size=config.attention_units,
        att_activation="dice",
    )


def _dien(workload: Workload, columns: list[Any]) -> Any:
    models = importlib.import_module("deepctr_torch.models")
    config: Any = workload.config
    return models.DIEN(
        columns,
        [past.target for past in workload.dataset.schema.history],
        gru_type="AUGRU",
        dnn_hidden_units=config.top_units,
        att_hidden_units=config.attention_units,
        att_activation="sigmoid",
    )


_MODELS = {"wdl": _wdl, "din": _din, "dien": _dien}


def _values(workload: Workload, batch: Batch) -> dict[str, Any]:
    """Engineered columns by name, each [N, k] float32, the user's repeated for every candidate."""
    schema = workload.dataset.schema
    with torch.inference_mode():
        features = workload.reference.features(expand(to_tensors(batch)))
    found: dict[str, Any] = {}
    for side, part in (("user", features.user), ("item", features.item)):
        fields = schema.dense_of(side), schema.ids_of(side)  # type: ignore[arg-type]
        for values, named in ((part.dense, fields[0]), (part.rows, fields[1])):
            found |= {field.name: values[:, k : k + 1] for k, field in enumerate(named)}
        found |= _bag_values(part, schema.bags_of(side), _longest_bags(workload))  # type: ignore[arg-type]
    for k, past in enumerate(schema.history):
        found[f"hist_{past.target}"] = features.history[..., k]
        found["history_steps"] = features.lengths.unsqueeze(1)
    return {name: values.numpy().astype(np.float32) for name, values in found.items()}


def _bag_values(part: Any, bags: tuple[BagField, ...], longest: dict[str, int]) -> dict[str, Any]:
    if not bags:
        return {}
    padded, lengths = pad_segments(part.bag_rows.unsqueeze(1), part.bag_offsets)
    padded, lengths = padded.view(-1, len(bags), padded.shape[1]), lengths.view(-1, len(bags))
    found = {}
    for k, bag in enumerate(bags):
        room = torch.zeros(len(padded), longest[bag.name], dtype=torch.int64)
        kept = min(room.shape[1], padded.shape[2])
        room[:, :kept] = padded[:, k, :kept]
        found |= {bag.name: room, f"{bag.name}_length": lengths[:, k : k + 1]}
    return found


def _longest_bags(workload: Workload) -> dict[str, int]:
    """Values of the longest bag of each field in the test split."""
    schema, split, found = workload.dataset.schema, workload.dataset.test, {}
    for rows, bags in ((split.user, schema.bags_of("user")), (split.item, schema.bags_of("item"))):
        lengths = np.diff(rows.bag_offsets).reshape(-1, max(1, len(bags)))
        found |= {bag.name: int(lengths[:, k].max()) for k, bag in enumerate(bags)}
    return found
