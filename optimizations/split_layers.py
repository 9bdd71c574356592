"""First layers taken apart (PyTorch): the user's columns once per user, the other columns once per sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optimizations.fusion.fc_module import described
from zoo.blueprint import Block
from zoo.layers.attention import ActivationUnit, SoftmaxAttention, softmax_scores
from zoo.layers.mlp import FullyConnected
from zoo.layers.ragged import step_mask, to_samples
from zoo.layers.tensors import Columns


def shared_columns(block: Block) -> Tensor:
    """[inputs] bool: True at the inputs of ``block`` that all samples of a user share."""
    shared = torch.zeros(dict(block.shape)["inputs"], dtype=torch.bool)
    for first, end in block.user_columns:
        shared[first:end] = True
    return shared


class SplitFullyConnected(nn.Module):
    """``activation(W_u x_u + b + W_s x_s)``, the first two terms once per user; takes ``Columns``.

    Both products are layers of their own, so that whatever exchanges a layer's product exchanges theirs.
    """

    takes_columns = True

    def __init__(self, reference: nn.Module, block: Block) -> None:
        """``reference``: any module in which ``described`` finds the block; it raises LoweringError for another one."""
        super().__init__()
        layer = described(reference, block)
        weight, bias = layer.linear.weight.detach(), layer.linear.bias.detach()
        shared = shared_columns(block).to(weight.device)
        self.users = _product(weight[:, shared], bias)
        self.samples = _product(weight[:, ~shared], torch.zeros_like(bias))
        self.activation = layer.activation

    def forward(self, columns: Columns) -> Tensor:
        """Columns [U, ...] and [N, ...] to [N, outputs]."""
        users, samples = self.users(columns.of_users()), self.samples(columns.of_samples())
        return self.activation(samples + _beside_samples(users, columns.user_of))


class SplitAttention(nn.Module):
    """Same signature as ``LocalActivationUnit`` and ``SoftmaxAttention``, with their first layer taken apart.

    W [q, k, q - k, q * k] = (Wq + Wd) q + (Wk - Wd) k + Wp (q * k): the first term once per sample, the second once per
    user, and a quarter of the columns for every pair.
    """

    def __init__(self, reference: ActivationUnit) -> None:
        super().__init__()
        first = reference.units[0]
        of_query, of_key, of_difference, of_product = first.linear.weight.detach().chunk(4, 1)
        bias = first.linear.bias.detach()
        self.candidates = _product(of_query + of_difference, bias)
        self.keys = _product(of_key - of_difference, torch.zeros_like(bias))
        self.pairs = _product(of_product, torch.zeros_like(bias))
        self.activation, self.score = first.activation, reference.score
        self.units = nn.Sequential(*list(reference.units)[1:])
        self.query = reference.query if isinstance(reference, SoftmaxAttention) else None

    def forward(self, query: Tensor, keys: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """query [N, q], keys [U, T, w] to scores [N, T] (DIEN) or the pooled interest [N, w] (DIN)."""
        mask = step_mask(to_samples(lengths, user_of), keys.shape[1])
        if self.query is not None:
            query = self.query(query)
        beside = _beside_samples(keys, user_of)
        hidden = self.pairs(query.unsqueeze(1) * beside)
        hidden = hidden + self.candidates(query).unsqueeze(1) + _beside_samples(self.keys(keys), user_of)
        ratings = self.score(self.units(self.activation(hidden.flatten(0, 1)))).view(mask.shape)
        ratings = ratings.masked_fill(~mask, 0.0)
        if self.query is not None:
            return softmax_scores(ratings, mask)
        return torch.matmul(ratings.unsqueeze(1), beside).squeeze(1)


def _beside_samples(users: Tensor, user_of: Tensor | None) -> Tensor:
    """Rows [U, ...] as rows that can stand beside those of N samples; the one user of a query needs no copies."""
    return users if len(users) == 1 else to_samples(users, user_of)


def _product(weight: Tensor, bias: Tensor) -> FullyConnected:
    outputs, inputs = weight.shape
    layer = FullyConnected(inputs, outputs, "none")
    layer.linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    layer.linear.bias = nn.Parameter(bias, requires_grad=False)
    return layer
