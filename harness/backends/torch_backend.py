"""Lowers a pipeline onto PyTorch: the reference model with the plan's blocks put in the place of its own."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.backends.block_lowering import BlockLowering
from harness.backends.protocol import Bind, Predict
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.frozen_model import frozen_model
from zoo.layers.features import to_tensors
from zoo.models.ctr_model import CtrModel
from zoo.schema import Batch


class TorchSession:
    """A model in evaluation mode. Blocks keep no state between calls, so threads may predict side by side.

    ``whole``: what a pass made of the model; it predicts then.
    """

    def __init__(
        self, model: CtrModel, device: str, report: list[dict[str, Any]], whole: Predict | None = None
    ) -> None:
        self._model, self._device, self._whole = model, torch.device(device), whole
        self.report = report

    @property
    def bind(self) -> Bind | None:
        """That of the pass, if it has one."""
        bind: Bind | None = getattr(self._whole, "bind", None)
        return bind

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Click probabilities [N]."""
        return self.compute(self.look_up(batch))

    def look_up(self, batch: Batch) -> Any:
        """Engineered features and their embeddings; the batch itself where a pass answers as a whole."""
        if self._whole is not None:
            return batch
        with torch.inference_mode():
            return self._model.look_up(to_tensors(batch, self._device))

    def compute(self, found: Any) -> npt.NDArray[np.float32]:
        """Click probabilities [N]."""
        if self._whole is not None:
            return self._whole(found)
        with torch.inference_mode():
            scores: npt.NDArray[np.float32] = self._model.score_of(*found).cpu().numpy()
        return scores

    def close(self) -> None:
        """Drop the model and, with it, the memory of its blocks."""
        del self._model, self._whole


def lower(plan: Plan, context: LoweringContext) -> TorchSession:
    """Build the plan's pipeline on ``context.device``.

    Threads within one operator: ``runtime.threads`` of the plan, else ``context.threads``. Raises ValueError when
    weights do not fit the model, or when a step matches no block.
    """
    runtime = plan.pipeline.runtime
    # Queries lie in shared memory that is read-only here, and no block writes to its input.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    os.environ.update(runtime.environment)
    context = dataclasses.replace(context, threads=runtime.threads or context.threads)
    torch.set_num_threads(context.threads)
    model = reference_model(context)
    lowering = BlockLowering(plan, context)
    for block in plan.pipeline.blocks:
        module = lowering.build(block, model.get_submodule(block.path))
        if module is not None:
            put(model, block.path, module)
    set_expansion(model, first=plan.pipeline.expand == "first")
    whole = next(filter(None, (lowering.whole(name, model) for name in lowering.passes)), None)
    return TorchSession(model, context.device, [step.to_json() for step in lowering.finish()], whole)


def reference_model(context: LoweringContext) -> CtrModel:
    """The reference with the context's weights, frozen, in evaluation mode, on its device."""
    return frozen_model(context.config, context.schema, dict(context.weights)).to(context.device)


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the submodule at ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module.eval())


def set_expansion(model: CtrModel, first: bool) -> None:
    """Where the user side is copied per sample: by a features block that can do it in its own pass, or before it."""
    features: Any = model.features
    takes_over = hasattr(features, "expand_first")
    if takes_over:
        features.expand_first = first
    model.expand_first = first and not takes_over
