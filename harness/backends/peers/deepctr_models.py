"""deepctr-torch's own WDL, DIN and DIEN at the sizes of ours. It has no DLRM.

Sizes are ours, DIEN's recurrence is the AUGRU, as in the paper; everything else is its own default.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from harness.backends.peers.sample_matrix import STEPS, Longest, SampleMatrix
from zoo.blueprint import field_dim
from zoo.configs import DienConfig, DinConfig, ModelConfig, WdlConfig
from zoo.schema import Schema

PACKAGE = "deepctr_torch"
ONE_STEP = 1
"""What its DIEN needs of every history."""


def build(config: ModelConfig, schema: Schema, longest: Longest) -> Any:
    """Its model of ``config``, freshly initialised. Raises ValueError for one that it does not have."""
    models = _module("models")
    columns, crosses = _columns(config, schema, longest), _crosses(schema)
    targets = [field.target for field in schema.history]
    if isinstance(config, WdlConfig):
        return models.WDL([*columns, *crosses], columns, dnn_hidden_units=config.deep_units)
    if isinstance(config, DinConfig):
        sizes = {"dnn_hidden_units": config.top_units, "att_hidden_size": config.attention_units}
        return models.DIN(columns, targets, **sizes)
    if isinstance(config, DienConfig):
        sizes = {"dnn_hidden_units": config.top_units, "att_hidden_units": config.attention_units}
        return models.DIEN(columns, targets, gru_type="AUGRU", **sizes)
    raise ValueError(f"deepctr-torch has no {config.name}")


def matrix_of(model: Any, config: ModelConfig, schema: Schema, longest: Longest) -> SampleMatrix:
    """What ``model`` takes of a batch."""
    fewest = ONE_STEP if isinstance(config, DienConfig) else 0
    return SampleMatrix(schema, longest, model.feature_index, fewest)


def callbacks() -> Any:
    """Its module of that name."""
    return _module("callbacks")


def _columns(config: ModelConfig, schema: Schema, longest: Longest) -> list[Any]:
    """Histories come first: its DIN takes the lengths of the first column of several values for those of histories."""
    inputs = _module("inputs")

    def values(name: str, field: Any, width: int, pooling: str, length: str) -> Any:
        one = inputs.SparseFeat(name, field.rows, _dim(config, field), embedding_name=field.table)
        return inputs.VarLenSparseFeat(one, width, pooling, length_name=length)

    found = [values(f"hist_{f.target}", f, schema.max_history, "mean", STEPS) for f in schema.history]
    found += [values(b.name, b, longest[b.name], b.pooling, f"{b.name}_length") for b in schema.bags]
    found += [inputs.DenseFeat(field.name, 1) for field in schema.dense]
    for field in schema.ids:
        found.append(inputs.SparseFeat(field.name, field.rows, _dim(config, field), embedding_name=field.table))
    return found


def _crosses(schema: Schema) -> list[Any]:
    return [_module("inputs").SparseFeat(field.name, field.rows, 1) for field in schema.crosses]


def _dim(config: ModelConfig, field: Any) -> int:
    return field_dim(config, getattr(field, "target", field.name))


def _module(name: str) -> Any:
    """A module of the package. Its ``__init__`` is not run: it starts a thread that asks the package index for newer
    versions. Raises ImportError where it is not installed."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None:
            raise ImportError(f"No module named {PACKAGE!r}")
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.{name}")
