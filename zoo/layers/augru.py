"""Recurrent layers of DIEN: the GRU that extracts interests and the AUGRU that follows their evolution.

Both keep the parameter layout of ``torch.nn.GRU``: ``weight_ih`` [3 h, inputs], ``weight_hh`` [3 h, h], ``bias_ih``
and ``bias_hh`` [3 h], the gates stacked in the order reset, update, candidate.
The meaning of the update gate differs: ``nn.GRU`` computes (1 - z) * candidate + z * state, the AUGRU of the paper
computes u' * candidate + (1 - u') * state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.layers.ragged import step_mask, to_samples


class Gru(nn.Module):
    """Interest extractor (Zhou et al., 2019, section 4.2): all states of a GRU over padded behaviours."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(inputs, hidden, batch_first=True)

    @property
    def weight_ih(self) -> Tensor:
        """[3 h, inputs]."""
        return self.rnn.weight_ih_l0

    @property
    def weight_hh(self) -> Tensor:
        """[3 h, h]."""
        return self.rnn.weight_hh_l0

    @property
    def bias_ih(self) -> Tensor:
        """[3 h]."""
        return self.rnn.bias_ih_l0

    @property
    def bias_hh(self) -> Tensor:
        """[3 h]."""
        return self.rnn.bias_hh_l0

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [U, T, inputs] to states [U, T, h], zero past ``lengths`` [U]."""
        states, _ = self.rnn(x)
        return states * step_mask(lengths, x.shape[1]).unsqueeze(-1)


class Augru(nn.Module):
    """GRU with attentional update gate (Zhou et al., 2019, section 4.3, equations 14 to 16).

    r = sigmoid(W_r x + b + U_r h + b), u = sigmoid(W_u x + b + U_u h + b), c = tanh(W_c x + b + r * (U_c h + b));
    u' = a u with a the attention score of the step; h = (1 - u') h + u' c. h is 0 at first.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.empty(3 * hidden))
        self.bias_hh = nn.Parameter(torch.empty(3 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """x [U, T, inputs], scores [N, T] to the last real state [N, h]."""
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        mask = step_mask(to_samples(lengths, user_of), x.shape[1])
        attention = (scores * mask).unsqueeze(-1)  # a score of 0 keeps the state
        state = x.new_zeros(len(scores), self.weight_hh.shape[1])
        # unbind, not indexing: the gradient of an index fills the whole sequence once per step
        for step_gates, step_attention in zip(gates.unbind(1), attention.unbind(1), strict=True):
            state = self._step(to_samples(step_gates, user_of), step_attention, state)
        return state

    def _step(self, gates: Tensor, attention: Tensor, state: Tensor) -> Tensor:
        reset_x, update_x, candidate_x = gates.chunk(3, 1)
        reset_h, update_h, candidate_h = F.linear(state, self.weight_hh, self.bias_hh).chunk(3, 1)
        reset = torch.sigmoid(reset_x + reset_h)
        update = attention * torch.sigmoid(update_x + update_h)
        candidate = torch.tanh(candidate_x + reset * candidate_h)
        return state + update * (candidate - state)
