"""FuxiCTR as its users would serve it: its own model on PyTorch, the columns engineered by numpy before it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from harness.backends.graph_session import GraphSession
from harness.backends.peers.fuxictr_models import FEWEST_ROWS, ModelInputs, build
from harness.backends.peers.plans import matched
from harness.backends.peers.trained_arrays import bags_in, state_in
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.schema import Float32


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Its model with the weights that its trainer has left (``context.weights``)."""
    torch.set_num_threads(plan.pipeline.runtime.threads or context.threads)
    config, schema, longest = context.config, context.schema, bags_in(context.weights)
    with tempfile.TemporaryDirectory() as folder:
        model = build(config, schema, longest, Path(folder))
    state = state_in(context.weights)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    model.eval().requires_grad_(False)
    inputs = ModelInputs(schema, longest)

    def compute(rows: Float32) -> Float32:
        samples = len(rows)
        if samples < FEWEST_ROWS:
            rows = np.repeat(rows, FEWEST_ROWS, 0)
        with torch.inference_mode():
            scores: Float32 = model(inputs(rows))["y_pred"].squeeze(1).numpy()
        return scores[:samples]

    return GraphSession(look_up=inputs.matrix(schema, longest), compute=compute, report=[matched(plan)])
