"""The recurrent layers of DIEN for the fit loop: the same states, over the real steps alone, with a gradient by hand.

Rows are sorted by length and their steps lie packed, step by step: the rows that still run at a step are its first
ones, and their states of the step before are the first ones of that step. Padding costs nothing, and the gradient of
the weights is one product over all steps instead of one per step.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from zoo.layers.augru import Augru, Gru
from zoo.layers.derived import derived
from zoo.layers.ragged import not_empty, step_mask, to_samples


class Packing(NamedTuple):
    """Where the real steps of R rows lie: the k-th packed step is step ``step[k]`` of row ``row[k]``.

    running: how many rows run at each step, not rising, without zeros; last [R]: packed place of a row's last step
    (anything for an empty row).
    """

    row: Tensor
    step: Tensor
    running: list[int]
    last: Tensor


@derived
def pack(lengths: Tensor, steps: int) -> Packing:
    """The packing of rows of ``lengths`` [R], padded to ``steps``."""
    ordered, order = torch.sort(lengths, descending=True, stable=True)
    step, place = torch.nonzero(step_mask(ordered, steps).T, as_tuple=True)
    running = torch.bincount(step, minlength=1)
    starts = F.pad(running.cumsum(0), (1, 0))
    last = torch.empty_like(order)
    last[order] = starts[(ordered - 1).clamp(min=0)] + torch.arange(len(order))
    return Packing(order[place], step, [count for count in running.tolist() if count], last)


class _Evolution(torch.autograd.Function):
    """All states [S, h] of h' = h + a u (c - h) with r, u, c as in ``Augru`` over S packed steps, with gradients.

    gates [S, 3 h] from the inputs, attention [S, 1], weight [3 h, h] and bias [3 h] of the state, running as in
    ``Packing``; h is 0 before the first step.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, gates: Tensor, attention: Tensor, weight: Tensor, bias: Tensor, running: list[int]
    ) -> Tensor:
        """The states."""
        width = weight.shape[1]
        from_state, reset_update, candidate, states = (gates.new_empty(len(gates), k * width) for k in (3, 2, 1, 1))
        columns = [2 * width, width]
        # Every view is made before the first step: a slice costs as much as the product of a short step.
        steps = zip(
            *(table.split(running) for table in (*gates.split(columns, 1), attention)),
            *(table.split(running) for table in (from_state, *from_state.split(columns, 1))),
            *(table.split(running) for table in (reset_update, *reset_update.split(width, 1), candidate, states)),
            running,
            strict=True,
        )
        transposed = weight.T
        before = candidate.new_zeros(running[0] if running else 0, width)
        for gates_ru, gates_c, score, hidden, hidden_ru, hidden_c, both, reset, update, wanted, state, count in steps:
            before = before[:count]
            torch.addmm(bias, before, transposed, out=hidden)
            torch.add(gates_ru, hidden_ru, out=both).sigmoid_()
            torch.addcmul(gates_c, reset, hidden_c, out=wanted).tanh_()
            torch.addcmul(before, score * update, wanted - before, out=state)
            before = state
        hidden = from_state[:, 2 * width :]
        ctx.save_for_backward(attention, weight, reset_update, candidate, hidden, states)
        ctx.running = running
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """Gradients of gates, attention, weight and bias."""
        attention, weight, reset_update, candidate, hidden, states = ctx.saved_tensors
        reset, update = reset_update.chunk(2, 1)
        before = _states_before(states, ctx.running)
        share, difference = attention * update, candidate - before
        # Every gate's gradient is the state's times a factor that is known before the way back begins.
        of_candidate = share * (1 - candidate * candidate)
        of_update = attention * difference * update * (1 - update)
        of_reset = of_candidate * hidden * reset * (1 - reset)
        factors = torch.stack((of_reset, of_update, of_candidate * reset), 1)
        kept, total, to_hidden = 1 - share, gradient.clone(), torch.empty_like(factors)
        carried = total.new_zeros(0, weight.shape[1])
        tables = (total, total.unsqueeze(1), factors, to_hidden, to_hidden.flatten(1), kept)
        for here, wide, factor, out, flat, share in reversed(
            list(zip(*(t.split(ctx.running) for t in tables), strict=True))
        ):
            here[: len(carried)] += carried
            torch.mul(wide, factor, out=out)
            carried = torch.addmm(here * share, flat, weight)
        to_gates, to_hidden = torch.cat((to_hidden[:, :2].flatten(1), total * of_candidate), 1), to_hidden.flatten(1)
        to_attention = (total * difference * update).sum(1, keepdim=True)
        return to_gates, to_attention, to_hidden.T @ before, to_hidden.sum(0), None


def _states_before(states: Tensor, running: list[int]) -> Tensor:
    before, start = torch.zeros_like(states), 0
    for count, following in itertools.pairwise(running):
        before[start + count : start + count + following] = states[start : start + following]
        start += count
    return before


class PackedGru(nn.Module):
    """``Gru`` with the parameters of ``reference`` and under their names."""

    def __init__(self, reference: Gru) -> None:
        super().__init__()
        self.rnn = reference.rnn

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """See ``Gru.forward``."""
        row, step, running, _ = pack(lengths, x.shape[1])
        rnn, width = self.rnn, self.rnn.hidden_size
        # 1 - sigmoid(s) = sigmoid(-s): with the update gate turned round, a GRU is an AUGRU of attention 1.
        turn = x.new_ones(3 * width)
        turn[width : 2 * width] = -1
        gates = F.linear(x[row, step], rnn.weight_ih_l0, rnn.bias_ih_l0) * turn
        weight, bias = rnn.weight_hh_l0 * turn.unsqueeze(1), rnn.bias_hh_l0 * turn
        states = _Evolution.apply(gates, gates.new_ones(len(gates), 1), weight, bias, running)
        return x.new_zeros(*x.shape[:2], width).index_put((row, step), states)


class PackedAugru(nn.Module):
    """``Augru`` with the parameters of ``reference`` and under their names."""

    def __init__(self, reference: Augru) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = reference.weight_ih, reference.weight_hh
        self.bias_ih, self.bias_hh = reference.bias_ih, reference.bias_hh

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """See ``Augru.forward``."""
        lengths = to_samples(lengths, user_of)
        row, step, running, last = pack(lengths, x.shape[1])
        of_user = row if user_of is None else user_of[row]
        gates = F.linear(x[of_user, step], self.weight_ih, self.bias_ih)
        states = _Evolution.apply(gates, scores[row, step].unsqueeze(1), self.weight_hh, self.bias_hh, running)
        if not running:
            return x.new_zeros(len(lengths), self.weight_hh.shape[1])
        return states[last.clamp(max=len(states) - 1)] * not_empty(lengths)


def packed(layer: Gru | Augru) -> PackedGru | PackedAugru:
    """``layer`` without the padding; the parameters stay the same objects."""
    return PackedGru(layer) if isinstance(layer, Gru) else PackedAugru(layer)
