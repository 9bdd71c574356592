"""Layers and optimizers that train in the place of a model's own.

They have the same parameters under the same names, and the same mathematics, in training and where a model is judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from zoo.configs import ModelConfig
from zoo.layers.augru import Augru, Gru
from zoo.layers.packed_recurrence import packed
from zoo.models.ctr_model import CtrModel
from zoo.optimizers import build_optimizers
from zoo.schema import Schema
from zoo.training_config import TrainingConfig


@dataclass(frozen=True, slots=True)
class StandIns:
    """layers: by the path of the one whose place they take. optimizers: those of the model with the layers in place."""

    layers: Mapping[str, nn.Module]
    optimizers: Callable[[nn.Module, TrainingConfig], list[torch.optim.Optimizer]] = build_optimizers


class Substitute(Protocol):
    """Chooses what trains in the place of what ``model`` is made of."""

    def __call__(self, model: CtrModel, config: ModelConfig, schema: Schema) -> StandIns:
        """The stand-ins of a model before its first step."""
        ...


def packed_recurrences(model: CtrModel, config: ModelConfig, schema: Schema) -> StandIns:
    """The recurrent layers without their padding; all else by itself."""
    return StandIns({name: packed(each) for name, each in model.named_children() if isinstance(each, Gru | Augru)})


@contextlib.contextmanager
def standing_in(model: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Within the block, ``layers`` are at their paths in ``model``."""
    own = {path: model.get_submodule(path) for path in layers}
    _place(model, layers)
    try:
        yield
    finally:
        _place(model, own)


def _place(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    for path, layer in layers.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, layer)
