"""First layers as two products (PyTorch): the user's columns once per user, the other columns once per sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.blueprint import Block
from zoo.layers.mlp import FullyConnected
from zoo.layers.ragged import to_samples
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

    def __init__(self, reference: FullyConnected, block: Block) -> None:
        super().__init__()
        weight, bias = reference.linear.weight.detach(), reference.linear.bias.detach()
        shared = shared_columns(block).to(weight.device)
        self.users = _product(weight[:, shared], bias)
        self.samples = _product(weight[:, ~shared], torch.zeros_like(bias))
        self.activation, self.kind = reference.activation, reference.kind

    def forward(self, columns: Columns) -> Tensor:
        """Columns [U, ...] and [N, ...] to [N, outputs]."""
        users, samples = self.users(columns.of_users()), self.samples(columns.of_samples())
        # The one user of a query needs no copies: its row is added to all.
        return self.activation(samples + (users if len(users) == 1 else to_samples(users, columns.user_of)))


def _product(weight: Tensor, bias: Tensor) -> FullyConnected:
    outputs, inputs = weight.shape
    layer = FullyConnected(inputs, outputs, "none")
    layer.linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    layer.linear.bias = nn.Parameter(bias, requires_grad=False)
    return layer
