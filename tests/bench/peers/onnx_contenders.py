"""ONNX Runtime and OpenVINO on one ONNX file: the one-user form of the reference, exported by PyTorch's exporter."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tests.bench.peers.contender import Contender
from tests.bench.peers.one_user_form import INPUTS, PER_USER, OneUserModel
from tests.bench.peers.workload import Workload
from zoo.layers.features import to_tensors
from zoo.layers.tensors import SideTensors
from zoo.models.ctr_model import CtrModel
from zoo.schema import Batch, Float32

Feed = dict[str, npt.NDArray[Any]]
EXAMPLE_SAMPLES = 7
"""No size that another dimension has, so that no two of them are taken for one."""


def onnx_runtime(workload: Workload, threads: int, folder: Path) -> Contender:
    """ONNX Runtime's CPU provider, all graph optimizations (its default)."""
    path = exported(workload, folder, rows_given=False)
    version = importlib.metadata.version("onnxruntime")
    return Contender(
        predict=onnx_runtime_session(path, threads), note=f"onnxruntime {version}; {recurrent_operators(path)}"
    )


def onnx_runtime_session(path: Path, threads: int) -> Callable[[Batch], Float32]:
    """Scores by ONNX Runtime from raw columns."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = [argument.name for argument in session.get_inputs()]

    def predict(batch: Batch) -> Float32:
        arrays = named_arrays(batch)
        scores: Float32 = session.run(None, {name: arrays[name] for name in wanted})[0]
        return scores

    return predict


def openvino(workload: Workload, threads: int, folder: Path) -> Contender:
    """OpenVINO from raw columns."""
    path = exported(workload, folder, rows_given=False)
    answer = openvino_request(path, threads)
    return Contender(predict=lambda batch: answer(named_arrays(batch)), note=_openvino_note(path))


def openvino_rows(workload: Workload, threads: int, folder: Path) -> Contender:
    """OpenVINO from table rows; hashing the ids is not in its time."""
    path = exported(workload, folder, rows_given=True)
    return Contender(
        predict=openvino_request(path, threads),
        prepare=lambda batch: arrays_of_rows(workload.reference, batch),
        note=_openvino_note(path),
    )


def openvino_request(path: Path, threads: int) -> Callable[[Feed], Float32]:
    """Scores by OpenVINO from the named arguments; default settings, but in fp32 as everybody else.

    (On processors that multiply bfloat16 its default rounds products to it.)
    """
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request, output = compiled.create_infer_request(), compiled.outputs[0]
    wanted = [argument.any_name for argument in compiled.inputs]

    def answer(arrays: Feed) -> Float32:
        # The result lies in memory of the request, which the next query overwrites.
        scores: Float32 = request.infer({name: arrays[name] for name in wanted})[output].copy()
        return scores

    return answer


def _openvino_note(path: Path) -> str:
    return f"openvino {importlib.metadata.version('openvino')}; {recurrent_operators(path)}"


def exported(workload: Workload, folder: Path, rows_given: bool) -> Path:
    """The ONNX file of the workload's model: made once, kept in ``folder`` for the processes that come after."""
    path = folder / f"{workload.config.name}_{'rows' if rows_given else 'raw'}.onnx"
    if not path.exists():
        split = workload.dataset.test
        export(workload.reference, split.batch(split.groups[0] + np.arange(EXAMPLE_SAMPLES)), path, rows_given)
    return path


def export(reference: CtrModel, example: Batch, path: Path, rows_given: bool) -> None:
    """Write the one-user form of ``reference`` as ONNX. Dynamic: candidates, history and the contents of bags.

    example: a query of one user, of a size that no other dimension has.
    """
    arrays = arrays_of_rows(reference, example) if rows_given else named_arrays(example)
    dynamic = tuple({} if name in PER_USER else {0: torch.export.Dim.AUTO} for name in INPUTS)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            OneUserModel(reference, rows_given=rows_given).eval(),
            tuple(torch.from_numpy(np.array(arrays[name])) for name in INPUTS),
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=list(INPUTS),
            output_names=["scores"],
            verbose=False,
        )
    partial = path.with_suffix(".partial")
    program.save(partial)
    partial.rename(path)


def named_arrays(batch: Batch) -> Feed:
    """The arguments of the one-user form by name, raw."""
    sides = [getattr(side, name) for side in (batch.user, batch.item) for name in SideTensors._fields]
    return dict(zip(INPUTS, (*sides, batch.history, batch.history_offsets, batch.user_of), strict=True))


def arrays_of_rows(reference: CtrModel, batch: Batch) -> Feed:
    """The arguments of the one-user form with ``rows_given``: the reference's own features block looks the rows up."""
    with torch.inference_mode():
        features = reference.features(to_tensors(batch))
        item_ids = torch.cat((features.item.rows, features.crosses), 1)
    found = named_arrays(batch) | {
        "user_ids": features.user.rows.numpy(),
        "user_bag_values": features.user.bag_rows.numpy(),
        "item_ids": item_ids.numpy(),
        "item_bag_values": features.item.bag_rows.numpy(),
    }
    return found | ({"history": features.history[0].numpy()} if batch.history.shape[1] else {})


def recurrent_operators(path: Path) -> str:
    """Which operators a file runs its recurrences by: "GRU, Scan", or "no recurrence"."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    found = sorted({node.op_type for node in graph.node} & {"GRU", "Scan", "Loop"})
    return ", ".join(found) if found else "no recurrence"
