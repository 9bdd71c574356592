"""Fully connected layers in training: product, bias and ReLU in one native call, and the way back in another."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import DenseCall, DenseLayer
from optimizations.lowering import LoweringError
from zoo.layers.mlp import FullyConnected


class TrainedRelu(FullyConnected):
    """``FullyConnected`` with ReLU, with the parameters of ``reference`` under the same names."""

    def __init__(self, reference: FullyConnected) -> None:
        nn.Module.__init__(self)
        self.linear, self.activation, self.kind = reference.linear, reference.activation, reference.kind

    def forward(self, x: Tensor) -> Tensor:
        """See ``FullyConnected.forward``."""
        found: Tensor = _Dense.apply(x, True, self.linear.weight, self.linear.bias)
        return found

    @staticmethod
    def together(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
        """See ``FullyConnectedStack``: the framework keeps account of one step and not of one per layer."""
        if not all(type(layer) is TrainedRelu for layer in layers):
            for layer in layers:
                x = layer(x)
            return x
        parameters = (each for layer in layers for each in (layer.linear.weight, layer.linear.bias))
        found: Tensor = _Dense.apply(x, True, *parameters)
        return found


class NativeLinear(nn.Module):
    """x W^T + b with the parameters of ``reference``, the same objects under the same names."""

    def __init__(self, reference: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = reference.weight, reference.bias

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs]."""
        found: Tensor = _Dense.apply(x, False, self.weight, self.bias)
        return found


class _Dense(torch.autograd.Function):
    """x [R, inputs] to [R, outputs] through layers one after another, weight and bias of each; fp32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, relu: bool, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        run, threads = load_kernels().recarena_dense_forward, torch.get_num_threads()
        parameters = tuple(each.contiguous() for each in parameters)
        values = [x.contiguous()]
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            values.append(x.new_empty(x.shape[0], weight.shape[0]))
            run(ctypes.byref(_described(values[-2], weight, bias, relu, values[-1])), threads)
        ctx.save_for_backward(*values, *parameters)
        ctx.relu = relu
        return values[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        run, threads = load_kernels().recarena_dense_backward, torch.get_num_threads()
        layers = len(ctx.saved_tensors) // 3  # n + 1 values, 2 n parameters
        values, parameters = ctx.saved_tensors[: layers + 1], ctx.saved_tensors[layers + 1 :]
        found: list[Tensor] = []
        to_x: Tensor | None = gradient.contiguous()
        for k in reversed(range(layers)):
            (x, y), (weight, bias), slope = values[k : k + 2], parameters[2 * k : 2 * k + 2], to_x
            to_x = torch.empty_like(x) if k or ctx.needs_input_grad[0] else None
            to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
            pointers = (0 if each is None else each.data_ptr() for each in (slope, to_x, to_weight, to_bias))
            run(ctypes.byref(_described(x, weight, bias, ctx.relu, y)), *pointers, threads)
            found[:0] = (to_weight, to_bias)
        return to_x, None, *found


def _described(x: Tensor, weight: Tensor, bias: Tensor, relu: bool, y: Tensor) -> DenseCall:
    layer = DenseLayer(weight.data_ptr(), bias.data_ptr(), *weight.shape)
    return DenseCall(x.data_ptr(), x.shape[0], layer, relu, y.data_ptr())


def trained_relu(reference: nn.Module) -> nn.Module:
    """``reference`` on the native kernels. Raises LoweringError for a layer of another kind."""
    if type(reference) is not FullyConnected or type(reference.activation) is not nn.ReLU:
        raise LoweringError(f"a {type(reference).__name__} is not trained in one call: it is no layer with ReLU")
    return TrainedRelu(reference)
