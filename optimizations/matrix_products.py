"""The reference blocks with their matrix products exchanged for products of another precision (PyTorch).

``bf16`` and ``tf32`` differ in one thing only, the module that multiplies; what goes around it, activations, softmax,
gates and states, stays the reference's arithmetic in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from optimizations.fusion.fc_module import fully_connected
from zoo.layers.augru import Augru, Gru
from zoo.layers.mlp import FullyConnected
from zoo.layers.ragged import step_mask, to_samples

Product = Callable[[Tensor, Tensor], nn.Module]
"""(weight [outputs, inputs], bias [outputs]) -> module that computes x W^T + b for x [..., inputs], result in fp32."""


def with_products(reference: nn.Module, product: Product) -> nn.Module:
    """A copy of ``reference`` whose fully connected layers multiply by ``product``.

    A block without any such layer is taken for one that is written in another way: ``fully_connected`` recognises it,
    or raises LoweringError.

    A rating (one output) inside a block stays in fp32: it costs nothing, and sums over a history would add its errors.
    """
    if not any(isinstance(module, FullyConnected) for module in reference.modules()):
        reference = fully_connected(reference)
    changed = copy.deepcopy(reference)
    for module in changed.modules():
        if isinstance(module, FullyConnected) and (module is changed or module.linear.out_features > 1):
            module.linear = product(module.linear.weight.detach(), module.linear.bias.detach())
    return changed


class StepwiseGru(nn.Module):
    """Same signature as ``Gru``, one product per step, the state in fp32."""

    def __init__(self, reference: Gru, product: Product) -> None:
        super().__init__()
        self.hidden = reference.weight_hh.shape[1]
        self.input, self.state = _products(reference, product)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [U, T, inputs] to states [U, T, h], zero past ``lengths`` [U]."""
        state = x.new_zeros(len(x), self.hidden)
        states = []
        for gates in self.input(x).unbind(1):
            update, candidate = _update_and_candidate(gates, self.state(state))
            state = candidate + update * (state - candidate)
            states.append(state)
        return torch.stack(states, 1) * step_mask(lengths, x.shape[1]).unsqueeze(-1)


class StepwiseAugru(nn.Module):
    """Same signature as ``Augru``."""

    def __init__(self, reference: Augru, product: Product) -> None:
        super().__init__()
        self.hidden = reference.weight_hh.shape[1]
        self.input, self.state = _products(reference, product)

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """x [U, T, inputs], scores [N, T] to the last real state [N, h]."""
        attention = (scores * step_mask(to_samples(lengths, user_of), x.shape[1])).unsqueeze(-1)
        state = x.new_zeros(len(scores), self.hidden)
        for gates, weight in zip(self.input(x).unbind(1), attention.unbind(1), strict=True):
            update, candidate = _update_and_candidate(to_samples(gates, user_of), self.state(state))
            state = state + weight * update * (candidate - state)
        return state


def _products(reference: Gru | Augru, product: Product) -> tuple[nn.Module, nn.Module]:
    return (
        product(reference.weight_ih.detach(), reference.bias_ih.detach()),
        product(reference.weight_hh.detach(), reference.bias_hh.detach()),
    )


def _update_and_candidate(from_input: Tensor, from_state: Tensor) -> tuple[Tensor, Tensor]:
    reset_x, update_x, candidate_x = from_input.chunk(3, 1)
    reset_h, update_h, candidate_h = from_state.chunk(3, 1)
    reset = torch.sigmoid(reset_x + reset_h)
    return torch.sigmoid(update_x + update_h), torch.tanh(candidate_x + reset * candidate_h)
