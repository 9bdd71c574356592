"""A linear layer on rows that are taken out of a padded history: one native call each way, in fp32 on the CPU."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from optimizations.kernels import training_interface
from optimizations.kernels.loader import load_kernels


class PackedLinear(torch.autograd.Function):
    """``x[index] W^T + b`` of rows [R, inputs], for an index [n] in which no row stands twice: [n, outputs]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        inputs = tuple(each.contiguous() for each in (x, index, weight, bias))
        out = x.new_empty(len(index), len(weight))
        call = _described(*inputs)
        load_kernels().recarena_packed_linear(ctypes.byref(call), out.data_ptr(), torch.get_num_threads())
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:  # type: ignore[override]
        x, index, weight, bias = ctx.saved_tensors
        made = (torch.zeros_like(x), torch.empty_like(weight), torch.empty_like(bias))
        call, gradient = _described(x, index, weight, bias), gradient.contiguous()
        pointers = (each.data_ptr() for each in (gradient, *made))
        load_kernels().recarena_packed_linear_back(ctypes.byref(call), *pointers, torch.get_num_threads())
        return made[0], None, made[1], made[2]


def _described(x: Tensor, index: Tensor, weight: Tensor, bias: Tensor) -> training_interface.PackedLinear:
    layer = training_interface.DenseLayer(weight.data_ptr(), bias.data_ptr(), *weight.shape)
    return training_interface.PackedLinear(x.data_ptr(), index.data_ptr(), len(index), layer)
