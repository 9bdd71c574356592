"""Lowers a pipeline onto OpenVINO's CPU plugin: the exported graph, from table rows to scores. No PyTorch.

The plugin computes 64-bit integers in 32 bits, so the ids are hashed before it, by numpy, in the step ``look_up``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino

from harness.backends.block_lowering import BlockLowering
from harness.backends.graph_session import GraphSession, graph_of
from harness.backends.idle_pool import IdlePool
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.onnx.inputs import Feed
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import Float32, Schema

PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
"""Its default is not that where the processor multiplies bfloat16."""


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Compile the graph with a stream per worker of the plan's runtime; everything else is as OpenVINO comes.

    Threads within one query: ``runtime.threads`` of the plan, else ``context.threads``. Raises ValueError when a step
    of the plan matches nothing.
    """
    runtime, graph, lowering = plan.pipeline.runtime, graph_of(context), BlockLowering(plan, context)
    streams = max(1, runtime.workers)
    settings = settings_of(streams, runtime.threads or context.threads)
    report = [step.to_json() for step in lowering.finish()]
    return serve(graph, settings, streams, context.schema, report)


def serve(
    graph: Path, settings: Mapping[str, Any], streams: int, schema: Schema, report: list[dict[str, Any]]
) -> GraphSession:
    """A session that answers ``streams`` queries at a time by ``graph``, from table rows."""
    compiled = openvino.Core().compile_model(str(graph), "CPU", dict(settings))
    wanted, output = [argument.any_name for argument in compiled.inputs], compiled.outputs[0]
    requests = IdlePool(compiled.create_infer_request, ready=streams)

    def compute(arrays: Feed) -> Float32:
        with requests.taken() as request:
            scores: Float32 = request.infer({name: arrays[name] for name in wanted})[output]
        return scores

    return GraphSession(look_up=RowArrays(schema), compute=compute, report=report)


def settings_of(streams: int, threads: int) -> dict[str, Any]:
    """``streams`` queries at a time, ``threads`` within each; in fp32. (Its performance hints choose just these two
    counts.)"""
    return {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams * threads, **PRECISION}
