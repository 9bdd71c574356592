"""Fully connected layers, their activations and stacks of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.layers.tensors import Columns

DICE_EPS = 1e-8
DICE_MOMENTUM = 0.1


class Dice(nn.Module):
    """Data-adaptive activation (Zhou et al., 2018, section 5.3, equation 9).

    f(s) = p(s) s + (1 - p(s)) alpha s with p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps)); E and Var are those of
    the mini-batch in training and their moving averages afterwards. ``alpha`` [outputs] is learned, 0 at first.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("running_mean", torch.zeros(outputs))
        self.register_buffer("running_var", torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[R, outputs] to the same; a single row has no variance and is judged by the moving averages."""
        learning = self.training and len(x) > 1
        scaled = F.batch_norm(
            x, self.running_mean, self.running_var, training=learning, momentum=DICE_MOMENTUM, eps=DICE_EPS
        )
        gate = torch.sigmoid(scaled)
        return x * (gate + self.alpha * (1 - gate))


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda outputs: nn.ReLU(),
    "sigmoid": lambda outputs: nn.Sigmoid(),
    "prelu": nn.PReLU,
    "dice": Dice,
    "none": lambda outputs: nn.Identity(),
}
"""Activations by their name in ``Block.kind``; each is built for a number of outputs."""


class FullyConnected(nn.Module):
    """``activation(x W^T + b)``: [R, inputs] to [R, outputs]. ``linear.weight`` is [outputs, inputs]."""

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.activation = ACTIVATIONS[activation](outputs)
        self.kind = activation
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, activation included."""
        return self.activation(self.linear(x))


class FullyConnectedStack(nn.Sequential):
    """Layers ``0, 1, ...`` of growing depth, each a block of its own. ``dropout`` acts in training only.

    Where nothing acts between layers and the first one has ``together``, that runs them all: (layers, x) to the last
    one's output.
    """

    def __init__(self, inputs: int, units: tuple[int, ...], activation: str) -> None:
        sizes = (inputs, *units)
        super().__init__(*(FullyConnected(a, b, activation) for a, b in zip(sizes, units, strict=False)))
        self.dropout = 0.0

    def forward(self, x: Tensor | Columns) -> Tensor:
        """[R, inputs], or the columns that make it up, to [R, units[-1]]."""
        if isinstance(x, Columns) and not getattr(self[0], "takes_columns", False):
            x = x.joined()
        dropped = self.training and self.dropout > 0
        together = getattr(self[0], "together", None)
        if together is not None and not dropped:
            whole: Tensor = together(list(self), x)
            return whole
        for layer in self:
            x = layer(x)
            if dropped:
                x = F.dropout(x, self.dropout)
        return x
