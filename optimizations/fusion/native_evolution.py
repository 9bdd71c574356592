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
        # reset, update, candidate, the state's part of the candidate, states before and after
        made = torch.empty((6, len(gates), weight.shape[1]))
        load_kernels().recarena_evolution_forward(_described(inputs, counts, made), torch.get_num_threads())
        ctx.save_for_backward(*inputs, counts, made)
        return made[5]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """Gradients of gates, attention, weight and bias."""
        *inputs, counts, made = ctx.saved_tensors
        gradient, before = gradient.contiguous(), made[4]
        to_gates, to_state_gates = torch.empty_like(inputs[0]), torch.empty_like(inputs[0])
        to_attention = torch.empty_like(inputs[1])
        tensors = (gradient, to_gates, to_state_gates, to_attention)
        gradients = EvolutionGradients(*(each.data_ptr() for each in tensors))
        described = _described(inputs, counts, made)
        load_kernels().recarena_evolution_backward(described, ctypes.byref(gradients), torch.get_num_threads())
        return to_gates, to_attention, to_state_gates.T @ before, to_state_gates.sum(0), None


def _described(inputs: list[Tensor], counts: Tensor, made: Tensor) -> Any:
    pointers = [each.data_ptr() for each in (*inputs, counts)]
    return ctypes.byref(Evolution(*pointers, len(counts), made.shape[2], *(each.data_ptr() for each in made)))
