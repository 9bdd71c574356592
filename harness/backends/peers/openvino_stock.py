"""OpenVINO as its users run it: the exported graph of our weights, its own defaults or tuned streams and threads."""

from __future__ import annotations

from harness.backends.graph_session import GraphSession, graph_of
from harness.backends.openvino_backend import PRECISION, serve, settings_of
from harness.backends.peers.plans import matched
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Compile the graph. Without an executor nothing is set but the precision; OpenVINO then takes its latency hint.

    In bfloat16 the precision is its own choice, which is that one on processors that multiply it.
    """
    runtime, graph = plan.pipeline.runtime, graph_of(context)
    streams = max(1, runtime.workers)
    settings = settings_of(streams, runtime.threads or context.threads) if runtime.executor else dict(PRECISION)
    if any(block.dtype == "bf16" for block in plan.pipeline.blocks):
        settings = {name: value for name, value in settings.items() if name not in PRECISION}
    return serve(graph, settings, streams, context.schema, [matched(plan)])
