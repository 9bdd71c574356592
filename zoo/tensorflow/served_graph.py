"""A model as one TensorFlow graph, from the arguments of ``zoo.onnx.inputs`` to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zoo.blueprint import describe
from zoo.configs import ModelConfig
from zoo.onnx.inputs import COLUMNS, INPUTS
from zoo.schema import Schema
from zoo.tensorflow.columns import engineered
from zoo.tensorflow.compiled import compiled_logit
from zoo.tensorflow.lookups import look_up
from zoo.tensorflow.models import LOGITS
from zoo.tensorflow.parameters import Assignment, Parameters


class ServedGraph:
    """``graph`` takes ``inputs`` (by name; any number of users, samples and steps) to ``scores`` [N].

    Before its first use each session runs ``assignments``: variables belong to a session.
    constants: see ``Parameters``. compiled: what lies behind the lookups is compiled by XLA, once per size.
    expand_first: the user's columns are copied per sample before anything else, not where they meet the item's.
    """

    def __init__(
        self,
        config: ModelConfig,
        schema: Schema,
        weights: Mapping[str, npt.NDArray[Any]],
        *,
        constants: bool = False,
        compiled: bool = False,
        expand_first: bool = True,
    ) -> None:
        """Raises ValueError for weights that do not fit the model."""
        describe(config, schema)
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.inputs = {name: _placeholder(name, schema) for name in INPUTS}
            parameters = Parameters(weights, constants=constants)
            found = look_up(engineered(self.inputs, schema, expand_first), config, schema, parameters)
            steps = tf.shape(self.inputs["history"])[1]
            model = LOGITS[config.name]
            if compiled:
                logits = compiled_logit(model, config, parameters, found, steps, schema.max_history)
            else:
                logits = model(config, parameters, found, steps)
            self.scores = tf.sigmoid(logits, name="scores")
            parameters.check()
        self.assignments: Sequence[Assignment] = parameters.assignments


def _placeholder(name: str, schema: Schema) -> Any:
    shapes: dict[str, list[int | None]] = {
        "history": [None, None, len(schema.history)],
        "history_lengths": [None],
        "user_of": [None],
    }
    for side in ("user", "item"):
        ids = [field.column for field in schema.ids_of(side) if field.source == "id"]
        widths = (len(schema.dense_of(side)), max(ids, default=-1) + 1, None, None)
        for column, width in zip(COLUMNS, widths, strict=True):
            shapes[f"{side}_{column}"] = [None] if width is None else [None, width]
    dtype = np.float32 if name.endswith("_dense") else np.int64
    return tf.compat.v1.placeholder(dtype, shapes[name], name)
