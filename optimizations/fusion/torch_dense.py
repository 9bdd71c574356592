"""The fused dense blocks: fully connected layers and the dot interaction."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from optimizations.kernels.interface import ACTIVATIONS, PRECISIONS, Handle, Layer, Quantizer
from optimizations.kernels.loader import load_kernels
from optimizations.split_layers import SplitFullyConnected
from zoo.layers.interaction import DotInteraction
from zoo.layers.mlp import DICE_EPS, Dice, FullyConnected
from zoo.layers.tensors import Columns


def activation_parameters(activation: nn.Module) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """(slope, scale, shift) as the kernels take them: Dice's batch norm becomes x * scale + shift."""
    if isinstance(activation, nn.PReLU):
        return activation.weight.detach().contiguous(), None, None
    if isinstance(activation, Dice):
        scale = torch.rsqrt(activation.running_var.double() + DICE_EPS)
        shift = -activation.running_mean.double() * scale
        return activation.alpha.detach().contiguous(), scale.float(), shift.float()
    return None, None, None


def layer_structure(layer: FullyConnected) -> tuple[Layer, object]:
    """The layer as the C interface takes it, and what must stay alive until it was read."""
    weight, bias = layer.linear.weight.detach().contiguous(), layer.linear.bias.detach().contiguous()
    tensors = (weight, bias, *activation_parameters(layer.activation))
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    return Layer(*pointers, weight.shape[0], weight.shape[1], ACTIVATIONS[layer.kind]), tensors


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

    ``integers``: the weight for dtype "int8".
    """

    def __init__(
        self, reference: FullyConnected, dtype: str, threads: int, integers: IntegerWeight | None = None
    ) -> None:
        super().__init__()
        layer, _keep = layer_structure(reference)
        self.outputs, self.threads = int(layer.outputs), threads
        weight = _weight(reference.linear.weight, integers)
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
        bias, kind = layers[0].bias.detach().contiguous(), ACTIVATIONS[reference.kind]
        parameters = activation_parameters(reference.activation)
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in parameters]
        quantizers = (Quantizer * 2)(users.quantizer, samples.quantizer)
        arguments = (users.pointer, samples.pointer, quantizers, bias.data_ptr())
        arguments += (layers[0].in_features, layers[1].in_features, self.outputs, kind, *pointers, PRECISIONS[dtype])
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
