"""The recurrence of the fit loop on the native kernels: forward and backward in one call each."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import Evolution, EvolutionGradients


class NativeEvolution(torch.autograd.Function):
    """``zoo.layers.packed_recurrence.Evolve`` in fp32 on the CPU, on as many threads as the framework uses.

    Raises KernelsUnavailable on the first call where the kernels cannot be built.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, gates: Tensor, attention: Tensor, weight: Tensor, bias: Tensor, running: list[int]
    ) -> Tensor:
        """See ``Evolve``."""
        inputs = [each.contiguous() for each in (gates, attention, weight, bias)]
        counts = torch.tensor(running, dtype=torch.int64)
        # reset, update, candidate and the state's part of the candidate, apart from the states
        made, states = (
            torch.empty(sizes) for sizes in ((4, len(gates), weight.shape[1]), (len(gates), weight.shape[1]))
        )
        described = _described(inputs, counts, made, states)
        load_kernels().recarena_evolution_forward(described, torch.get_num_threads())
        ctx.save_for_backward(*inputs, counts, made, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """Gradients of gates, attention, weight and bias."""
        *inputs, counts, made, states = ctx.saved_tensors
        to_gates, to_attention, to_weight, to_bias = (torch.empty_like(each) for each in inputs)
        tensors = (gradient.contiguous(), to_gates, to_attention, to_weight, to_bias)
        gradients = EvolutionGradients(*(each.data_ptr() for each in tensors))
        described = _described(inputs, counts, made, states)
        load_kernels().recarena_evolution_backward(described, ctypes.byref(gradients), torch.get_num_threads())
        return to_gates, to_attention, to_weight, to_bias, None


def _described(inputs: list[Tensor], counts: Tensor, made: Tensor, states: Tensor) -> Any:
    pointers = [each.data_ptr() for each in (*inputs, counts)]
    filled = (each.data_ptr() for each in (*made, states))
    return ctypes.byref(Evolution(*pointers, len(counts), states.shape[1], *filled))
