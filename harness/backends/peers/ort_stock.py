"""ONNX Runtime as its users run it: the exported graph of our weights, its own defaults or its documented settings."""

from __future__ import annotations

from harness.backends.graph_session import GraphSession, graph_of
from harness.backends.onnxruntime_backend import serve, session_options
from harness.backends.peers.plans import matched
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Open the graph with the plan's options: "session", entries of a session's configuration by name."""
    runtime, (step,) = plan.pipeline.runtime, plan.steps
    options = session_options(runtime.threads or context.threads, "")
    for name, value in step.options.get("session", {}).items():
        options.add_session_config_entry(name, value)
    return serve(graph_of(context), options, runtime.workers, context.schema, [matched(plan)])
