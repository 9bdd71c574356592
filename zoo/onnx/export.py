"""Child process that exports one model: ``python -m zoo.onnx.export SPEC.json``. It loads PyTorch; who serves does not.

The spec holds ``model`` (name and sizes), ``schema`` (its JSON), ``weights`` (path), ``rows_given``, ``expand_first``
and ``out`` (the ``.onnx`` to write; its weights lie beside it in ``<out>.data``). Weights that cannot be read, or do
not fit, and a disk that is full, are told as one JSON object on standard output: ``{"refused": reason}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.checkpoint import load_weights
from zoo.configs import model_config
from zoo.frozen_model import frozen_model
from zoo.models.ctr_model import CtrModel
from zoo.onnx.inputs import INPUTS, OUTPUT, raw_arrays
from zoo.onnx.padded_model import PaddedModel
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import Batch, Rows, Schema, Side

USERS, SAMPLES, STEPS = 5, 13, 7
VALUES = {"user": 19, "item": 29}
"""Sizes of the example that is traced. No two of its varying dimensions have the same, or they would be taken for one
(offsets have a multiple of USERS or of SAMPLES, and one more)."""
TWO_DIMENSIONS = frozenset({"history"})
"""Arguments whose second dimension varies, too; the first one of all does."""


def export(reference: CtrModel, path: Path, *, rows_given: bool = False, expand_first: bool = True) -> None:
    """Write ``PaddedModel(reference)`` as ONNX for any number of users, samples, steps and bag values.

    The weights lie in a file of their own, ``<path>.data``: runtimes map it, so that processes share its pages.
    """
    model = PaddedModel(reference, rows_given=rows_given, expand_first=expand_first)
    write_graph(model, reference.features.schema, path, rows_given=rows_given)


def write_graph(model: PaddedModel, schema: Schema, path: Path, *, rows_given: bool, steps: int = STEPS) -> None:
    """Write a model in its padded form. steps: behaviours of the example, which count only for a model that takes
    their number from it."""
    example = example_batch(schema, steps)
    arrays = RowArrays(schema)(example) if rows_given else raw_arrays(example)
    varying = {name: (0, 1) if name in TWO_DIMENSIONS else (0,) for name in INPUTS}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            model.eval(),
            tuple(torch.from_numpy(arrays[name].copy()) for name in INPUTS),
            dynamo=True,
            dynamic_shapes=tuple(dict.fromkeys(varying[name], torch.export.Dim.AUTO) for name in INPUTS),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            verbose=False,
        )
        program.save(path, external_data=True)


def example_batch(schema: Schema, steps: int = STEPS) -> Batch:
    """Samples of several users, all columns 0 and all bags and histories filled; what is traced depends on no value."""
    lengths = np.array([steps, *np.arange(USERS - 1) % steps + 1])
    return Batch(
        user=_rows(schema, "user", USERS),
        item=_rows(schema, "item", SAMPLES),
        history=np.zeros((lengths.sum() if schema.history else 0, len(schema.history)), np.int64),
        history_offsets=np.append(0, lengths.cumsum() if schema.history else np.zeros(USERS)).astype(np.int64),
        user_of=np.arange(SAMPLES, dtype=np.int64) % USERS,
    )


def _rows(schema: Schema, side: Side, count: int) -> Rows:
    columns = [field.column for field in schema.ids_of(side) if field.source == "id"]
    bags = count * len(schema.bags_of(side))
    values = VALUES[side] if bags else 0
    return Rows(
        dense=np.zeros((count, len(schema.dense_of(side))), np.float32),
        ids=np.zeros((count, max(columns, default=-1) + 1), np.int64),
        bag_values=np.zeros(values, np.int64),
        bag_offsets=np.arange(bags + 1, dtype=np.int64) * values // max(1, bags),
    )


def main(spec_path: str) -> None:
    """Export what the spec says."""
    spec: dict[str, Any] = json.loads(Path(spec_path).read_text("utf-8"))
    config, out = model_config(spec["model"]["name"], spec["model"]), Path(spec["out"])
    try:
        model = frozen_model(config, Schema.from_json(spec["schema"]), load_weights(Path(spec["weights"])))
    except ValueError as error:
        _refuse(str(error))
        return
    try:
        export(model, out, rows_given=spec["rows_given"], expand_first=spec["expand_first"])
    except OSError as error:
        _refuse(
            f"the graph of {config.name} cannot be written below {out.parent} ({error}): make room, or set cache_dir"
        )


def _refuse(reason: str) -> None:
    print(json.dumps({"refused": reason}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
