"""ONNX Runtime and OpenVINO on one ONNX file, as they come: that of ``zoo.onnx``, which the backends serve, too."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.peers.contender import Contender
from tests.bench.peers.workload import Workload
from zoo.onnx.export import export
from zoo.onnx.inputs import OUTPUT, Feed, raw_arrays
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import Batch, Float32


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
        arrays = raw_arrays(batch)
        scores: Float32 = session.run([OUTPUT], {name: arrays[name] for name in wanted})[0]
        return scores

    return predict


def openvino(workload: Workload, threads: int, folder: Path) -> Contender:
    """OpenVINO from raw columns."""
    path = exported(workload, folder, rows_given=False)
    answer = openvino_request(path, threads)
    return Contender(predict=lambda batch: answer(raw_arrays(batch)), note=_openvino_note(path))


def openvino_rows(workload: Workload, threads: int, folder: Path) -> Contender:
    """OpenVINO from table rows; hashing the ids is not in its time."""
    path = exported(workload, folder, rows_given=True)
    return Contender(
        predict=openvino_request(path, threads),
        prepare=RowArrays(workload.dataset.schema),
        note=_openvino_note(path),
    )


def openvino_request(path: Path, threads: int) -> Callable[[Feed], Float32]:
    """Scores by OpenVINO from the named arguments."""
    import openvino

    return openvino_answer(openvino.Core().compile_model(path, "CPU", openvino_settings(threads)))


def openvino_settings(threads: int) -> dict[str, Any]:
    """Default settings, but in fp32 as everybody else: on processors that multiply bfloat16 its default rounds products
    to it."""
    return {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}


def openvino_answer(compiled: Any) -> Callable[[Feed], Float32]:
    """Scores of a compiled model."""
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
    made = folder / f"{workload.config.name}_{'rows' if rows_given else 'raw'}"
    if not made.exists():
        partial = made.with_suffix(".partial")
        partial.mkdir()
        export(workload.reference, partial / "model.onnx", rows_given=rows_given)
        partial.rename(made)
    return made / "model.onnx"


def recurrent_operators(path: Path) -> str:
    """Which operators a file runs its recurrences by: "GRU, Scan", or "no recurrence"."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    found = sorted({node.op_type for node in graph.node} & {"GRU", "Scan", "Loop"})
    return ", ".join(found) if found else "no recurrence"
