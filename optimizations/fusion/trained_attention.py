"""Activation units in training: ratings of all real steps, forward and backward in one native call each.

The first layer is taken apart: W [q, k, q - k, q * k] = (W1 + W3) q + (W2 - W3) k + W4 (q * k), and what the last two
make of a sample's steps is one product with a matrix of its own (see kernels/trained_attention.cpp).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from optimizations.fusion.attention_taken_apart import TakenApart
from optimizations.fusion.packed_rows import real_count
from optimizations.fusion.parameter_gradients import dense_layers, parameters_of, split_gradients
from optimizations.fusion.trained_dice import remember
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import Rating, RatingGradients
from optimizations.lowering import LoweringError
from zoo.layers.attention import ActivationUnit, LocalActivationUnit, SoftmaxAttention
from zoo.layers.mlp import Dice, FullyConnected

INPUTS = 6
"""Tensors of ``_Call.inputs``; what is kept for the way back begins with them."""


class TrainedLocalUnit(TakenApart, LocalActivationUnit):
    """DIN's, with the parameters of another one."""

    def forward(self, query: Tensor, keys: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """See ``LocalActivationUnit.forward``."""
        if not _native(self, lengths, user_of):
            return super().forward(query, keys, lengths, user_of)
        return _rated(self, query, keys, lengths, softmax=False)


class TrainedSoftmax(TakenApart, SoftmaxAttention):
    """DIEN's, with the parameters of another one."""

    def forward(self, query: Tensor, keys: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """See ``SoftmaxAttention.forward``."""
        if not _native(self, lengths, user_of):
            return super().forward(query, keys, lengths, user_of)
        return _rated(self, self.query(query), keys, lengths, softmax=True)


KINDS: dict[type[nn.Module], type[TakenApart]] = {
    LocalActivationUnit: TrainedLocalUnit,
    SoftmaxAttention: TrainedSoftmax,
}


def trained_attention(reference: nn.Module) -> nn.Module:
    """``reference`` on the native kernels in training. Raises LoweringError for layers of other kinds."""
    kind = KINDS.get(type(reference))
    if kind is None or not isinstance(reference, ActivationUnit) or not _known_layers(reference):
        raise LoweringError(f"a {type(reference).__name__} is not trained in one call: its layers are not known")
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    for name, child in reference.named_children():
        setattr(made, name, child)
    return made


def _known_layers(unit: ActivationUnit) -> bool:
    layers = [*unit.units, unit.score]
    if any(type(layer) is not FullyConnected for layer in layers) or unit.score.kind != "none":
        return False
    return {layer.kind for layer in unit.units} in ({"dice"}, {"sigmoid"})


def _native(unit: ActivationUnit, lengths: Tensor, user_of: Tensor | None) -> bool:
    """Whether the kernels compute what is asked: dropout acts between layers that are one there, and what normalises
    by more than these rows (``SharedDice``), or by the moving averages, is the framework's."""
    if not unit.training or unit.units.dropout > 0 or user_of is not None:
        return False
    kinds = {type(layer.activation) for layer in unit.units}
    return kinds == {nn.Sigmoid} or (kinds == {Dice} and real_count(lengths) > 1)


def _rated(unit: ActivationUnit, query: Tensor, keys: Tensor, lengths: Tensor, softmax: bool) -> Tensor:
    first = unit.units[0].linear
    of_query, of_key, of_difference, of_product = first.weight.chunk(4, 1)
    base = F.linear(query, of_query + of_difference, first.bias)
    layers = [*list(unit.units)[1:], unit.score]
    alphas = [layer.activation.alpha for layer in unit.units if isinstance(layer.activation, Dice)]
    own = (base, query, keys, of_key - of_difference, of_product)
    found: Tensor = _Rating.apply(*own, lengths, unit, softmax, len(alphas), *alphas, *parameters_of(layers))
    return found


class _Call(NamedTuple):
    """What both directions need. described: the layers after the first one; alpha: of all layers, whole vectors."""

    inputs: tuple[Tensor, ...]  # base, query, keys, lengths, key weight, product weight
    softmax: bool
    dice: bool
    layers: list[FullyConnected]
    filled: tuple[Tensor, ...]  # alpha, out, units, ratings, mean, inverse, squares

    def described(self, layers: ctypes.Array[Any]) -> Rating:
        """For the kernels; ``layers`` has to live as long."""
        base, query, keys, lengths, key, product = (each.data_ptr() for each in self.inputs)
        samples, steps, width = self.inputs[2].shape
        sizes = (samples, steps, width, self.inputs[0].shape[1])
        kinds = (len(layers), self.softmax, self.dice)
        filled = (each.data_ptr() for each in self.filled)
        return Rating(base, query, keys, lengths, *sizes, key, product, *kinds, ctypes.addressof(layers), *filled)


class _Rating(torch.autograd.Function):
    """Softmax scores [N, T], or the keys' sums weighted by their ratings [N, w]."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        base: Tensor,
        query: Tensor,
        keys: Tensor,
        key_weight: Tensor,
        product_weight: Tensor,
        lengths: Tensor,
        unit: ActivationUnit,
        softmax: bool,
        dice: int,
        *parameters: Tensor,
    ) -> Tensor:
        library = load_kernels()
        samples, steps, width = keys.shape
        rows, hidden = real_count(lengths), [layer.linear.out_features for layer in unit.units]
        padded = [-(-size // library.recarena_lanes()) * library.recarena_lanes() for size in hidden]
        out = keys.new_empty(samples, steps if softmax else width)
        units, ratings = keys.new_empty(rows * sum(padded)), keys.new_empty(0 if softmax else rows)
        alpha, mean, inverse, squares = keys.new_zeros(4, sum(padded))
        for own, part in zip(parameters[:dice], alpha.split(padded), strict=False):
            part[: len(own)] = own.detach()
        inputs = tuple(each.contiguous() for each in (base, query, keys, lengths, key_weight, product_weight))
        layers = [*list(unit.units)[1:], unit.score]
        call = _Call(inputs, softmax, dice > 0, layers, (alpha, out, units, ratings, mean, inverse, squares))
        described = dense_layers(layers)
        library.recarena_rating_forward(ctypes.byref(call.described(described)), torch.get_num_threads())
        if dice:
            for layer, own_mean, own_squares in zip(unit.units, mean.split(padded), squares.split(padded), strict=True):
                remember(layer.activation, own_mean, own_squares, rows)
        # Held by the graph and not by ``ctx``: a function that holds its own result is a cycle, and so dies late.
        ctx.save_for_backward(*call.inputs, *call.filled)
        ctx.kinds, ctx.dice, ctx.padded = call[1:-1], dice, padded
        ctx.shapes = [each.shape for each in parameters]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved, gradient = ctx.saved_tensors, gradient.contiguous()
        call = _Call(saved[:INPUTS], *ctx.kinds, saved[INPUTS:])
        base, query, keys, _, key_weight, product_weight = (torch.empty_like(each) for each in call.inputs)
        shapes = ctx.shapes[ctx.dice :]
        flat, alpha = base.new_empty(sum(shape.numel() for shape in shapes)), base.new_zeros(sum(ctx.padded))
        made = (gradient, base, query, keys, key_weight, product_weight, flat, alpha)
        gradients = RatingGradients(*(each.data_ptr() for each in made))
        layers = dense_layers(call.layers)
        described = call.described(layers)
        threads = torch.get_num_threads()
        load_kernels().recarena_rating_backward(ctypes.byref(described), ctypes.byref(gradients), threads)
        alphas = [
            part[: shape[0]] for part, shape in zip(alpha.split(ctx.padded), ctx.shapes[: ctx.dice], strict=False)
        ]
        ahead = (base, query, keys, key_weight, product_weight)
        return (*ahead, None, None, None, None, *alphas, *split_gradients(flat, shapes))
