"""Recurrent layers in training: from padded inputs to states in one native call, and one for the way back."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from optimizations.fusion.packed_rows import steps_within
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import DenseLayer, Recurrence, RecurrenceGradients

KEPT = 5
"""Vectors that a step keeps for the way back (trained_recurrence.h)."""


class NativeRecurrence(torch.autograd.Function):
    """A GRU over x [N, T, w], or with ``attention`` [N, T] the AUGRU, in fp32 on the CPU: all states [N, T, h], 0 past
    ``lengths`` [N], or with ``last`` the last ones [N, h], 0 for an empty row. weights: of the inputs [3 h, w] and
    [3 h], of the state [3 h, h] and [3 h], in the order reset, update, candidate. rooms: memory between two passes, a
    list that the layer has for itself; there is one way back.

    Raises ValueError for a length above T.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        attention: Tensor | None,
        lengths: Tensor,
        last: bool,
        rooms: list[Tensor],
        *weights: Tensor,
    ) -> Tensor:
        library, lengths = load_kernels(), lengths.contiguous()
        samples, steps, _ = x.shape
        hidden, lanes = weights[2].shape[1], library.recarena_lanes()
        kept = _room(rooms, steps_within(lengths, steps) * KEPT * -(-hidden // lanes) * lanes)
        out = x.new_empty((samples, hidden) if last else (samples, steps, hidden))
        score = None if attention is None else attention.contiguous()
        inputs = (x.contiguous(), score, lengths, *(each.contiguous() for each in weights))
        call = _described(inputs, kept, out, last)
        library.recarena_recurrence_forward(ctypes.byref(call), torch.get_num_threads())
        ctx.save_for_backward(*inputs)
        ctx.last, ctx.kept, ctx.rooms = last, kept, rooms
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of x, attention and the weights."""
        inputs, kept, ctx.kept = ctx.saved_tensors, ctx.kept, None
        x, attention, _, *weights = inputs
        gradient = gradient.contiguous()
        moved = (x, attention, *weights)
        to_x, to_attention, *made = (None if each is None else torch.empty_like(each) for each in moved)
        given = (0, gradient.data_ptr()) if ctx.last else (gradient.data_ptr(), 0)
        pointers = (0 if each is None else each.data_ptr() for each in (to_x, to_attention, *made))
        gradients, call = RecurrenceGradients(*given, *pointers), _described(inputs, kept, None, ctx.last)
        load_kernels().recarena_recurrence_backward(
            ctypes.byref(call), ctypes.byref(gradients), torch.get_num_threads()
        )
        ctx.rooms.append(kept)
        return (to_x, to_attention, None, None, None, *made)


def _room(rooms: list[Tensor], floats: int) -> Tensor:
    """One of ``rooms``, or a new one. Memory that is asked for anew comes page by page, each cleared by the system."""
    kept = rooms.pop() if rooms else torch.empty(0)
    return kept if len(kept) >= floats else torch.empty(floats + floats // 4)


def _described(inputs: Any, kept: Tensor, out: Tensor | None, last: bool) -> Recurrence:
    x, attention, lengths, *weights = inputs
    of_input, input_bias, of_state, state_bias = weights
    layers = (
        DenseLayer(weight.data_ptr(), bias.data_ptr(), *weight.shape)
        for weight, bias in ((of_input, input_bias), (of_state, state_bias))
    )
    filled = 0 if out is None else out.data_ptr()
    return Recurrence(
        *(x.data_ptr(), 0 if attention is None else attention.data_ptr(), lengths.data_ptr()),
        *(*x.shape, of_state.shape[1]),
        *layers,
        *(kept.data_ptr(), 0 if last else filled, filled if last else 0),
    )
