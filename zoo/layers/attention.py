"""Attention of a candidate item over a user's behaviours: DIN's local activation unit and DIEN's softmax scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.layers.derived import derived
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.ragged import step_mask, to_samples


@derived
def real_steps(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Of every real step of ``mask`` [N, T], its row, and its place in the flattened mask."""
    real = mask.flatten().nonzero().squeeze(1)
    return real.div(mask.shape[1], rounding_mode="floor"), real


class ActivationUnit(nn.Module):
    """The small network that rates one behaviour for one candidate: [q, k, q - k, q * k] -> ``units`` -> 1."""

    def __init__(self, width: int, units: tuple[int, ...], activation: str) -> None:
        super().__init__()
        self.units = FullyConnectedStack(4 * width, units, activation)
        self.score = FullyConnected(units[-1], 1, "none")

    def relevance(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Ratings [N, T] of keys [N, T, w] for queries [N, w]; 0 where ``mask`` [N, T] is False."""
        if self.training:
            # Dice averages over what it sees: padding must not move its statistics.
            row, real = real_steps(mask)
            query, keys = query.index_select(0, row), keys.flatten(0, 1).index_select(0, real)
            return keys.new_zeros(mask.shape).masked_scatter(mask, self._rate(query, keys))
        query = query.unsqueeze(1).expand_as(keys)
        return self._rate(query, keys).view(mask.shape).masked_fill(~mask, 0.0)

    def _rate(self, query: Tensor, keys: Tensor) -> Tensor:
        pairs = torch.cat((query, keys, query - keys, query * keys), -1)
        return self.score(self.units(pairs.flatten(0, -2)))


class LocalActivationUnit(ActivationUnit):
    """DIN (Zhou et al., 2018, section 4.3, equation 3): weighted sum pooling, the weights are not normalised."""

    def __init__(self, width: int, units: tuple[int, ...]) -> None:
        super().__init__(width, units, "dice")

    def forward(self, query: Tensor, keys: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """query [N, w], keys [U, T, w], lengths [U] to the pooled interest [N, w]."""
        keys, lengths = to_samples(keys, user_of), to_samples(lengths, user_of)
        weights = self.relevance(query, keys, step_mask(lengths, keys.shape[1]))
        return torch.bmm(weights.unsqueeze(1), keys).squeeze(1)


class SoftmaxAttention(ActivationUnit):
    """DIEN (Zhou et al., 2019, section 4.3): scores of the GRU's states, softmax over the real steps.

    As in the authors' published code, the candidate is first projected to the width of the states (linear, PReLU)
    and the rating network's hidden units are sigmoids.
    """

    def __init__(self, query: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__(width, units, "sigmoid")
        self.query = FullyConnected(query, width, "prelu")

    def forward(self, query: Tensor, keys: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """query [N, q], keys [U, T, w], lengths [U] to scores [N, T]; an empty history scores 0 at every step."""
        keys, lengths = to_samples(keys, user_of), to_samples(lengths, user_of)
        mask = step_mask(lengths, keys.shape[1])
        return softmax_scores(self.relevance(self.query(query), keys, mask), mask)


def softmax_scores(ratings: Tensor, mask: Tensor) -> Tensor:
    """Softmax of ratings [N, T] over the real steps; 0 where ``mask`` [N, T] is False."""
    # The lowest finite number, not -inf: a row without a real step would turn to NaN, in its gradient too.
    lowest = torch.finfo(ratings.dtype).min
    return torch.softmax(ratings.masked_fill(~mask, lowest), 1).masked_fill(~mask, 0.0)
