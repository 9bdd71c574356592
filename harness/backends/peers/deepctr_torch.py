"""deepctr-torch as its users would serve it: its own model on PyTorch, the columns engineered by numpy before it."""

from __future__ import annotations

import numpy as np
import torch

from harness.backends.graph_session import GraphSession
from harness.backends.peers.deepctr_models import build, matrix_of
from harness.backends.peers.plans import matched
from harness.backends.peers.trained_arrays import bags_in, state_in
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.schema import Float32


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Its model with the weights that its trainer has left (``context.weights``)."""
    torch.set_num_threads(plan.pipeline.runtime.threads or context.threads)
    config, schema, longest = context.config, context.schema, bags_in(context.weights)
    model = build(config, schema, longest)
    state = state_in(context.weights)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    model.eval().requires_grad_(False)

    def compute(matrix: Float32) -> Float32:
        with torch.inference_mode():
            scores: Float32 = model(torch.from_numpy(matrix)).squeeze(1).numpy()
        return scores

    return GraphSession(look_up=matrix_of(model, config, schema, longest), compute=compute, report=[matched(plan)])
