"""DIEN's auxiliary loss in training: one native call gives it with all of its gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optimizations.fusion.packed_rows import rows_of_steps
from optimizations.fusion.parameter_gradients import dense_layers, parameters_of, split_gradients
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import Auxiliary, AuxiliaryGradients
from optimizations.lowering import LoweringError
from zoo.layers.derived import derived
from zoo.layers.mlp import FullyConnected
from zoo.models.dien import AuxiliaryNet


@derived
def pairs_of(lengths: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
    """The place in [N, T] of every behaviour that another one follows, and the sampled rows [pairs, H] one place on.

    lengths [N], sampled [N, T, H].
    """
    rows, places = rows_of_steps(sampled, lengths, 1, 0)
    return places, rows


class TrainedAuxiliary(AuxiliaryNet):
    """``AuxiliaryNet`` with the parameters of ``reference``, under the same names."""

    def __init__(self, reference: AuxiliaryNet) -> None:
        nn.Module.__init__(self)
        self.units, self.score = reference.units, reference.score

    def loss(
        self, states: Tensor, history: Tensor, sampled: Tensor, lengths: Tensor, look_up: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """See ``AuxiliaryNet.loss``."""
        pairs, rows = pairs_of(lengths, sampled)
        if self.units.dropout > 0 or not len(pairs):
            return super().loss(states, history, sampled, lengths, look_up)
        others = look_up(rows)
        layers = [*self.units, self.score]
        found: Tensor = _AuxiliaryLoss.apply(states, history, others, pairs, layers, *parameters_of(layers))
        return found


class _AuxiliaryLoss(torch.autograd.Function):
    """Mean over pairs of a state, by its place [pairs] in [N, T], with the behaviour one place on and a sampled one."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        states: Tensor,
        history: Tensor,
        sampled: Tensor,
        pairs: Tensor,
        layers: Sequence[FullyConnected],
        *parameters: Tensor,
    ) -> Tensor:
        states, history, sampled = states.contiguous(), history.contiguous(), sampled.contiguous()
        described = dense_layers(layers)
        sizes = (len(pairs), states.shape[-1], history.shape[-1], len(layers))
        inputs = (each.data_ptr() for each in (states, history, sampled, pairs))
        made = [torch.empty_like(each) for each in (states, history, sampled)]
        made.append(torch.empty(sum(each.numel() for each in parameters)))
        call = Auxiliary(*inputs, *sizes, ctypes.addressof(described))
        rows = states.shape[:-1].numel()
        gradients = AuxiliaryGradients(*(each.data_ptr() for each in made), rows)
        threads = torch.get_num_threads()
        loss = load_kernels().recarena_auxiliary(ctypes.byref(call), ctypes.byref(gradients), threads)
        ctx.save_for_backward(*made)
        ctx.shapes = [each.shape for each in parameters]
        return states.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale = float(gradient)
        states, history, sampled, flat = (each if scale == 1.0 else each * scale for each in ctx.saved_tensors)
        return states, history, sampled, None, None, *split_gradients(flat, ctx.shapes)


def trained_auxiliary(reference: nn.Module) -> nn.Module:
    """``reference`` in one native call. Raises LoweringError for a net of another kind."""
    layers = [*reference.units, reference.score] if type(reference) is AuxiliaryNet else []
    kinds = [layer.kind if type(layer) is FullyConnected else "" for layer in layers]
    if len(kinds) < 2 or kinds[-1] != "none" or set(kinds[:-1]) != {"sigmoid"}:
        raise LoweringError(f"a {type(reference).__name__} is not trained in one call: its layers are not known")
    return TrainedAuxiliary(reference)  # type: ignore[arg-type]
