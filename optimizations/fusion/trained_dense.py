"""Fully connected layers in training: product, bias and ReLU in one native call, and the way back in another."""

from __future__ import annotations

import ctypes
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
        found: Tensor = _Dense.apply(x, self.linear.weight, self.linear.bias, True)
        return found


class NativeLinear(nn.Module):
    """x W^T + b with the parameters of ``reference``, the same objects under the same names."""

    def __init__(self, reference: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = reference.weight, reference.bias

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs]."""
        found: Tensor = _Dense.apply(x, self.weight, self.bias, False)
        return found


class _Dense(torch.autograd.Function):
    """x [R, inputs] to [R, outputs] in fp32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:  # type: ignore[override]
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        y = x.new_empty(len(x), len(weight))
        call = _described(x, weight, bias, relu, y)
        load_kernels().recarena_dense_forward(ctypes.byref(call), torch.get_num_threads())
        ctx.save_for_backward(x, weight, bias, y)
        ctx.relu = relu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight, bias, y = ctx.saved_tensors
        gradient, to_weight, to_bias = gradient.contiguous(), torch.empty_like(weight), torch.empty_like(bias)
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        call = _described(x, weight, bias, ctx.relu, y)
        pointers = (0 if each is None else each.data_ptr() for each in (gradient, to_x, to_weight, to_bias))
        load_kernels().recarena_dense_backward(ctypes.byref(call), *pointers, torch.get_num_threads())
        return to_x, to_weight, to_bias, None


def _described(x: Tensor, weight: Tensor, bias: Tensor, relu: bool, y: Tensor) -> DenseCall:
    layer = DenseLayer(weight.data_ptr(), bias.data_ptr(), *weight.shape)
    return DenseCall(x.data_ptr(), len(x), layer, relu, y.data_ptr())


def trained_relu(reference: nn.Module) -> nn.Module:
    """``reference`` on the native kernels. Raises LoweringError for a layer of another kind."""
    if type(reference) is not FullyConnected or type(reference.activation) is not nn.ReLU:
        raise LoweringError(f"a {type(reference).__name__} is not trained in one call: it is no layer with ReLU")
    return TrainedRelu(reference)
