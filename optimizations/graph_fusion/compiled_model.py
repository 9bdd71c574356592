"""A model with two compiled graphs, one before and one behind the tables, that no later query compiles again.

Ragged columns decide sizes, and each such decision would break a graph; so the copy of the user's columns, padding and
lookups stay with the framework's operators. Recurrences do, too: a graph has no loop of unknown length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic_shapes
from torch.nn import functional as F

from optimizations.graph_fusion.compiled_features import FEWEST, CompiledFeatures, at_least_two, varying
from optimizations.lowering import LoweringError
from zoo.layers.features import FeatureTransform, to_tensors
from zoo.layers.tensors import Embedded, Features, SideFeatures
from zoo.models.ctr_model import CtrModel
from zoo.schema import Batch

FIRST_SAMPLES = 11


class CompiledModel:
    """Scores batches of any number of users, samples and steps. Keeps no state between calls."""

    def __init__(self, model: CtrModel, recurrent: Mapping[str, tuple[int, ...]], calibration: Batch) -> None:
        """Compiles, which takes tens of seconds. Raises LoweringError where the compiler gives up.

        recurrent: recurrent blocks of the model, and the dimensions of their results whose sizes vary.
        """
        self._model = model
        torch._inductor.config.compile_threads = 1  # no pool of processes beside the one that serves
        for path, dimensions in recurrent.items():
            setattr(model, path, Uncompiled(model.get_submodule(path), dimensions))
        if type(model.features) is FeatureTransform:
            model.features = CompiledFeatures(model.features.schema)
        self._dense: Any = torch.compile(model.score_of)
        try:
            with symbolic_shapes.patch(use_duck_shape=False):  # that two sizes are equal in the first batch is chance
                self.predict(_first(calibration))
        except Exception as failure:
            raise LoweringError(f"torch.compile gave up: {type(failure).__name__}: {failure}") from failure

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Click probabilities [N]. Raises IndexError for a raw id outside the table of a field that is not hashed."""
        with torch.inference_mode():
            found = _varying(*self._model.look_up(to_tensors(batch)))
            scores: npt.NDArray[np.float32] = self._dense(*found)[: len(batch)].numpy()
        return scores


class Uncompiled(nn.Module):
    """A block that stays with the framework; ``dimensions`` of its result vary."""

    def __init__(self, block: nn.Module, dimensions: tuple[int, ...]) -> None:
        super().__init__()
        self.block, self.dimensions = block, dimensions

    @torch.compiler.disable
    def forward(self, *arguments: Tensor | None) -> Tensor:
        """The block's result, of which the graph behind it must not take a size for fixed."""
        return varying(self.block(*arguments), *self.dimensions)


def _varying(features: Features, embedded: Embedded) -> tuple[Features, Embedded]:
    """What the blocks behind the tables read, with two rows and steps at least, all of them of varying number."""
    behaviours = embedded.history
    if behaviours.shape[2]:  # without a history there is one step always
        behaviours = F.pad(behaviours, (0, 0, 0, max(0, FEWEST - behaviours.shape[1])))
        behaviours = varying(at_least_two(behaviours), 0, 1)
    else:
        behaviours = varying(at_least_two(behaviours), 0)
    nothing = features.lengths.new_empty(0)  # what only the tables read; of any size in a graph, it would be fixed
    user, item = (
        SideFeatures(dense=_rows(side.dense), rows=nothing, bag_rows=nothing, bag_offsets=nothing)
        for side in (features.user, features.item)
    )
    user_of = None if features.user_of is None else _rows(features.user_of)
    return (
        Features(user, item, history=nothing, lengths=_rows(features.lengths), crosses=nothing, user_of=user_of),
        Embedded(
            user=_rows(embedded.user),
            item=_rows(embedded.item),
            target=_rows(embedded.target),
            history=behaviours,
            summed=None if embedded.summed is None else _rows(embedded.summed),
            wide=None if embedded.wide is None else _rows(embedded.wide),
        ),
    )


def _rows(x: Tensor) -> Tensor:
    return varying(at_least_two(x), 0)


def _first(calibration: Batch) -> Batch:
    """Some samples of two users and more, as a batch of its own: every size above 1."""
    samples = np.arange(max(FIRST_SAMPLES, FEWEST)) % len(calibration)
    item = calibration.item.take(samples)
    return Batch(calibration.user, item, calibration.history, calibration.history_offsets, calibration.user_of[samples])
