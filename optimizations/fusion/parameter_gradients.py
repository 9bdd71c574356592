"""Layers and gradients of their parameters as native calls take them: weight and bias of each, one after another."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from optimizations.kernels.training_interface import DenseLayer
from zoo.layers.mlp import FullyConnected


def parameters_of(layers: Sequence[FullyConnected]) -> list[Tensor]:
    """Weight and bias of each layer; activations have parameters of their own."""
    return [parameter for layer in layers for parameter in (layer.linear.weight, layer.linear.bias)]


def dense_layers(layers: Sequence[FullyConnected]) -> ctypes.Array[Any]:
    """The layers as an array; valid as long as their parameters, which lie without gaps, as in ``nn.Linear``."""
    return (DenseLayer * len(layers))(
        *(
            DenseLayer(*(each.data_ptr() for each in parameters_of([layer])), *layer.linear.weight.shape)
            for layer in layers
        )
    )


def split_gradients(flat: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Views of ``flat`` in the given shapes, one after another."""
    sizes = [math.prod(shape) for shape in shapes]
    return [part.view(*shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
