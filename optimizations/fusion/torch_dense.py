"""The fused dense blocks: fully connected layers and the dot interaction."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from optimizations.fusion.fc_recognition import recognise
from optimizations.kernels.interface import ACTIVATIONS, PRECISIONS, Handle, Layer, Quantizer
from optimizations.kernels.loader import load_kernels
from optimizations.split_layers import SplitFullyConnected
from zoo.layers.interaction import DotInteraction
from zoo.layers.tensors import Columns


def layer_structure(layer: nn.Module) -> tuple[Layer, tuple[Any, ...]]:
    """The layer as the C interface takes it, and what must stay alive until it was read: its weight comes first.

    Raises LoweringError for a module that is no activated product of its input, see ``recognise``.
    """
    found = recognise(layer)
    parts = (found.weight, found.bias, found.slope, found.scale, found.shift)
    tensors = tuple(None if part is None else part.float().contiguous() for part in parts)
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    return Layer(*pointers, *found.weight.shape, ACTIVATIONS[found.kind]), tensors


class IntegerWeight(Protocol):
    """A layer's weight as integers [outputs, inputs] int8, each times ``scale`` [outputs] and ``inverse`` [inputs]."""

    integers: Tensor
    scale: Tensor
    inverse: Tensor


class _Weight(NamedTuple):
    """A weight as the kernels take it; ``keep`` has to stay alive until they have read it."""

    pointer: int
    quantizer: Quantizer
    keep: object


def _weight(floats: Tensor, integers: IntegerWeight | None) -> _Weight:
    if integers is None:
        floats = floats.detach().contiguous()
        return _Weight(floats.data_ptr(), Quantizer(), floats)
    parts = [part.contiguous() for part in (integers.integers, integers.scale, integers.inverse)]
    weight, scale, inverse = (part.data_ptr() for part in parts)
    return _Weight(weight, Quantizer(scale, inverse), parts)


class FusedFullyConnected(nn.Module):
    """Same signature as ``FullyConnected``: product, bias and activation in one call over packed weights.

    ``reference``: any module that computes such a layer, see ``recognise``, which raises LoweringError for another one.
    ``integers``: the weight for dtype "int8".
    """

    def __init__(self, reference: nn.Module, dtype: str, threads: int, integers: IntegerWeight | None = None) -> None:
        super().__init__()
        layer, tensors = layer_structure(reference)
        self.inputs, self.outputs, self.threads = int(layer.inputs), int(layer.outputs), threads
        weight = _weight(tensors[0], integers)
        arguments = (weight.pointer, weight.quantizer, layer.bias, layer.inputs, layer.outputs, layer.kind)
        arguments += (layer.slope, layer.scale, layer.shift, PRECISIONS[dtype])
        library = load_kernels()
        self._run = library.recarena_fc_run
        self._handle = Handle(library, "fc", arguments)

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs]."""
        x = x.contiguous()
        rows = x.shape[0]
        out = torch.empty((rows, self.outputs))
        self._run(self._handle.pointer, x.data_ptr(), rows, out.data_ptr(), self.threads)
        return out


class FusedSplit(nn.Module):
    """Same signature as ``SplitFullyConnected``: the users' products are where those of their samples start."""

    takes_columns = True

    def __init__(
        self,
        reference: SplitFullyConnected,
        dtype: str,
        threads: int,
        integers: tuple[IntegerWeight | None, IntegerWeight | None] = (None, None),
    ) -> None:
        super().__init__()
        self.outputs, self.threads = reference.users.linear.out_features, threads
        layers = (reference.users.linear, reference.samples.linear)
        users, samples = (_weight(layer.weight, of) for layer, of in zip(layers, integers, strict=True))
        activated, _keep = layer_structure(nn.Sequential(reference.users, reference.activation))
        quantizers = (Quantizer * 2)(users.quantizer, samples.quantizer)
        arguments = (users.pointer, samples.pointer, quantizers, activated.bias)
        arguments += (layers[0].in_features, layers[1].in_features, self.outputs, activated.kind)
        arguments += (activated.slope, activated.scale, activated.shift, PRECISIONS[dtype])
        library = load_kernels()
        self._run = library.recarena_fc_split_run
        self._handle = Handle(library, "fc_split", arguments)

    def forward(self, columns: Columns) -> Tensor:
        """Columns [U, ...] and [N, ...] to [N, outputs]."""
        users, samples, index = columns.of_users(), columns.of_samples(), columns.user_of
        rows = samples.shape[0]
        out = torch.empty((rows, self.outputs))
        inputs = (users.data_ptr(), users.shape[0], samples.data_ptr(), 0 if index is None else index.data_ptr())
        self._run(self._handle.pointer, *inputs, rows, out.data_ptr(), self.threads)
        return out


class FusedInteraction(nn.Module):
    """Same signature as ``DotInteraction``: each sample's vectors are read once, only the triangle is computed."""

    def __init__(self, reference: DotInteraction, dtype: str, threads: int) -> None:
        super().__init__()
        self.pairs, self.precision, self.threads = len(reference.pairs), PRECISIONS[dtype], threads
        self._run = load_kernels().recarena_interaction_run

    def forward(self, vectors: Tensor) -> Tensor:
        """[N, F, d] to [N, F (F - 1) / 2]."""
        vectors = vectors.contiguous()
        samples, count, width = vectors.shape
        out = torch.empty((samples, self.pairs))
        self._run(vectors.data_ptr(), samples, count, width, out.data_ptr(), self.precision, self.threads)
        return out
