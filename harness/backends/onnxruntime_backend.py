"""Lowers a pipeline onto ONNX Runtime's CPU provider: the exported graph, from raw columns to scores. No PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import onnxruntime

from harness.backends.block_lowering import BlockLowering
from harness.backends.graph_session import GraphSession, graph_of
from harness.backends.idle_pool import IdlePool
from optimizations.contract import Plan
from optimizations.executor.spec import INTER_OP
from optimizations.lowering import LoweringContext
from zoo.onnx.inputs import OUTPUT, raw_arrays
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import Batch, Float32, Schema

ERRORS_ONLY = 3


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Open the graph as the plan's runtime says; everything else is as ONNX Runtime comes.

    Threads within one query: ``runtime.threads`` of the plan, else ``context.threads``. Raises ValueError when a step
    of the plan matches nothing.
    """
    runtime, graph, lowering = plan.pipeline.runtime, graph_of(context), BlockLowering(plan, context)
    options = session_options(runtime.threads or context.threads, runtime.executor)
    report = [step.to_json() for step in lowering.finish()]
    return serve(graph, options, runtime.workers, context.schema, report)


def serve(
    graph: Path, options: onnxruntime.SessionOptions, workers: int, schema: Schema, report: list[dict[str, Any]]
) -> GraphSession:
    """A session that answers ``workers`` queries at a time by ``graph``, from raw columns."""
    taken, wanted = shared_models(graph, options, workers)
    numpy_rows = RowArrays(schema)

    def compute(batch: Batch) -> Float32:
        arrays = raw_arrays(batch)
        with taken() as model:
            try:
                scores: Float32 = model.run([OUTPUT], {name: arrays[name] for name in wanted})[0]
            except Exception:
                numpy_rows(batch)  # says which raw id lies outside its table, where that is the reason
                raise
        return scores

    return GraphSession(look_up=lambda batch: batch, compute=compute, report=report)


def session_options(threads: int, executor: str) -> onnxruntime.SessionOptions:
    """``threads`` for each operator, or under ``inter_op`` for as many operators at a time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads
    if executor == INTER_OP:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.intra_op_num_threads, options.inter_op_num_threads = 1, threads
    # It keeps a plan of the memory for each combination of sizes that it meets, and queries hardly repeat one.
    options.enable_mem_pattern = False
    return options


def shared_models(
    graph: Path, options: onnxruntime.SessionOptions, workers: int
) -> tuple[Callable[[], AbstractContextManager[onnxruntime.InferenceSession]], list[str]]:
    """(a model for the calling thread, names of the graph's arguments).

    Without threads of its own one model serves all callers. Else each caller has one: those of a model would be shared
    among the queries that it answers at a time.
    """

    def opened() -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    alone = options.intra_op_num_threads == 1 and options.inter_op_num_threads <= 1
    if alone:
        model = opened()
        return lambda: contextlib.nullcontext(model), [argument.name for argument in model.get_inputs()]
    pool = IdlePool(opened, ready=max(1, workers))
    with pool.taken() as model:
        return pool.taken, [argument.name for argument in model.get_inputs()]
