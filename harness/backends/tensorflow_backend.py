"""Lowers a pipeline onto TensorFlow's CPU device: one graph, from raw columns to scores, run by a session. No PyTorch.

A session is what TensorFlow Serving runs a model by: threads, executor and passes over the graph are its own, and are
not settings of the whole process as they are where functions run eagerly.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.eager import context as eager_context

from harness.backends.block_lowering import BlockLowering
from harness.backends.graph_session import GraphSession
from harness.backends.idle_pool import IdlePool
from optimizations.contract import Pipeline, Plan
from optimizations.executor.spec import INTER_OP
from optimizations.fusion.spec import CONSTANTS, XLA
from optimizations.lowering import LoweringContext
from zoo.onnx.inputs import INPUTS, Feed, raw_arrays
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import Batch, Float32
from zoo.tensorflow.compiled import warm_batches
from zoo.tensorflow.served_graph import ServedGraph

ONE_AFTER_ANOTHER = "SINGLE_THREADED_EXECUTOR"
IN_THE_CALLERS_THREAD = -1
OWN_POOLS = {"TF_OVERRIDE_GLOBAL_THREADPOOL": "1"}
"""Each session has its threads within operators; else the first one of the process decides for all."""


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Build the graph and open it as the plan says; everything else is as TensorFlow comes.

    Threads within one query: ``runtime.threads`` of the plan, else ``context.threads``. Raises ValueError for weights
    that do not fit the model, or when a step of the plan matches nothing.
    """
    pipeline, lowering = plan.pipeline, BlockLowering(plan, context)
    os.environ.update({**OWN_POOLS, **dict(pipeline.runtime.environment)})
    graph = built_graph(pipeline, context)
    config = session_config(pipeline, pipeline.runtime.threads or context.threads)
    warm = list(warm_batches(context.schema)) if XLA in pipeline.passes else []
    taken = shared_models(lambda: Model(graph, config, warm), config, pipeline.runtime.workers)
    if context.calibration is not None and rounds(pipeline):
        with taken() as model:
            account_for_precision(lowering, pipeline, model.multiplied_in_bf16(raw_arrays(context.calibration)))
    numpy_rows = RowArrays(context.schema)

    def compute(batch: Batch) -> Float32:
        with taken() as model:
            try:
                return model.scores(raw_arrays(batch))
            except tf.errors.OpError:
                numpy_rows(batch)  # says which raw id lies outside its table, where that is the reason
                raise

    report = [step.to_json() for step in lowering.finish()]
    return GraphSession(look_up=lambda batch: batch, compute=compute, report=report)


def built_graph(pipeline: Pipeline, context: LoweringContext) -> ServedGraph:
    """The graph in the form that the executor of ``pipeline`` can run."""
    # A loop that is taken apart into its operators has edges backwards, which that executor does not follow.
    with eager_context.function_executor_type(executor_of(pipeline)):
        return ServedGraph(
            context.config,
            context.schema,
            context.weights,
            constants=CONSTANTS in pipeline.passes,
            compiled=XLA in pipeline.passes,
            expand_first=pipeline.expand == "first",
        )


def executor_of(pipeline: Pipeline) -> str:
    """TensorFlow's name of what runs the operators of a query; "" is its own, which can run them side by side."""
    # Mixed precision changes the type of a loop's state, and of a loop that is one operator it leaves the other half.
    loops = rounds(pipeline) and any(block.role == "recurrent" for block in pipeline.blocks)
    return ONE_AFTER_ANOTHER if pipeline.runtime.executor not in ("", INTER_OP) and not loops else ""


def rounds(pipeline: Pipeline) -> bool:
    """Whether products are wanted in bfloat16."""
    return any(block.dtype == "bf16" for block in pipeline.blocks)


def session_config(pipeline: Pipeline, threads: int) -> Any:
    """``threads`` for each operator, or under ``inter_op`` for as many operators at a time.

    Without an executor as many operators at a time as there are cores, too: TensorFlow's own setting.
    """
    config = config_pb2.ConfigProto(use_per_session_threads=True, intra_op_parallelism_threads=threads)
    config.experimental.executor_type = executor_of(pipeline)
    if pipeline.runtime.executor == INTER_OP:
        config.intra_op_parallelism_threads, config.inter_op_parallelism_threads = 1, threads
    elif pipeline.runtime.executor:
        config.inter_op_parallelism_threads = IN_THE_CALLERS_THREAD
    if rounds(pipeline):
        rewriting = config.graph_options.rewrite_options
        rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    return config


class Model:
    """The graph in a session of its own, with its variables assigned, and asked each of the batches ``warm`` once.

    Several threads may ask it at a time.
    """

    def __init__(self, graph: ServedGraph, config: Any, warm: Sequence[Batch]) -> None:
        self._graph = graph
        self._session = tf.compat.v1.Session(graph=graph.graph, config=config)
        values = {made.value: made.array for made in graph.assignments}
        self._session.run([made.operation for made in graph.assignments], values)
        options = config_pb2.CallableOptions(
            feed=[graph.inputs[name].name for name in INPUTS], fetch=[graph.scores.name]
        )
        # The public make_callable sends what is fed through Session.run, which looks at every argument anew each time.
        self._run = self._session._make_callable_from_options(options)
        for batch in warm:
            self.scores(raw_arrays(batch))

    def scores(self, arrays: Feed) -> Float32:
        """Click probabilities [N]."""
        scores: Float32 = self._run(*(arrays[name] for name in INPUTS))[0]
        return scores

    def multiplied_in_bf16(self, arrays: Feed) -> set[str]:
        """Names of the matrix products whose operands TensorFlow has rounded, in the graph that it really runs."""
        metadata = config_pb2.RunMetadata()
        self._session.run(
            self._graph.scores,
            {tensor: arrays[name] for name, tensor in self._graph.inputs.items()},
            options=config_pb2.RunOptions(output_partition_graphs=True),
            run_metadata=metadata,
        )
        nodes = [node for graph in metadata.partition_graphs for node in _nodes(graph)]
        return {n.name for n in nodes if "MatMul" in n.op and n.attr["T"].type == tf.bfloat16.as_datatype_enum}


def _nodes(graph: Any) -> list[Any]:
    """All nodes of a graph, those of its loops included."""
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def account_for_precision(lowering: BlockLowering, pipeline: Pipeline, rounded: set[str]) -> None:
    """Which of the blocks that the plan wants in bf16 have a product in it."""
    for block in pipeline.blocks:
        found = any(name.startswith((f"{block.path}/", f"{block.path}.")) for name in rounded)
        dtype = "bf16" if found else "fp32"
        lowering.account(block, {"dtype": dtype}, ["TensorFlow has left its products in fp32"])


def shared_models(
    opened: Callable[[], Model], config: Any, workers: int
) -> Callable[[], AbstractContextManager[Model]]:
    """A model for the calling thread.

    Without threads of its own one model serves all callers. Else each caller has one: those of a model would be shared
    among the queries that it answers at a time.
    """
    alone = config.intra_op_parallelism_threads == 1 and config.inter_op_parallelism_threads == IN_THE_CALLERS_THREAD
    if alone:
        model = opened()
        return lambda: contextlib.nullcontext(model)
    return IdlePool(opened, ready=max(1, workers)).taken
