"""The fused dense blocks: fully connected layers and the dot interaction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optimizations.kernels.interface import ACTIVATIONS, PRECISIONS, Handle, Layer
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


class FusedFullyConnected(nn.Module):
    """Same signature as ``FullyConnected``: product, bias and activation in one call over packed weights."""

    def __init__(self, reference: FullyConnected, dtype: str, threads: int) -> None:
        super().__init__()
        layer, _keep = layer_structure(reference)
        self.outputs, self.threads = int(layer.outputs), threads
        arguments = (layer.weight, layer.bias, layer.inputs, layer.outputs, layer.kind)
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

    def __init__(self, reference: SplitFullyConnected, dtype: str, threads: int) -> None:
        super().__init__()
        self.outputs, self.threads = reference.users.linear.out_features, threads
        users, samples = (layer.linear.weight.detach().contiguous() for layer in (reference.users, reference.samples))
        bias, kind = reference.users.linear.bias.detach().contiguous(), ACTIVATIONS[reference.kind]
        parameters = activation_parameters(reference.activation)
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in parameters]
        arguments = (users.data_ptr(), samples.data_ptr(), bias.data_ptr(), users.shape[1], samples.shape[1])
        library = load_kernels()
        self._run = library.recarena_fc_split_run
        arguments += (self.outputs, kind, *pointers, PRECISIONS[dtype])
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
