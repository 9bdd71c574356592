"""Ways in which people write one fully connected layer, and layers that only look like one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Part = Callable[[Any, Tensor], Tensor]


class Written(nn.Module):
    """One layer by hand: ``forward`` is ``activation(self, linear(self, x))`` for two functions of the lists below."""

    def __init__(self, inputs: int, outputs: int, linear: Part, activation: Part) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.randn(outputs))
        self.stored = nn.Parameter(self.weight.detach().T.contiguous())
        self.slope = nn.Parameter(torch.rand(outputs) * 0.8 + 0.1)
        self.lin, self.own_prelu, self.norm = nn.Linear(inputs, outputs), nn.PReLU(outputs), nn.BatchNorm1d(outputs)
        self.own_prelu.weight = nn.Parameter(self.slope.detach().clone())
        self.lin.weight, self.lin.bias = nn.Parameter(self.weight.detach()), nn.Parameter(self.bias.detach())
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2.0)
        self.row, self.zero = self.bias.detach().clone().unsqueeze(0), torch.zeros(())
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.written_linear, self.written_activation = linear, activation
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs]."""
        return self.written_activation(self, self.written_linear(self, x))


LINEAR: dict[str, Part] = {
    "nn.Linear": lambda m, x: m.lin(x),
    "F.linear": lambda m, x: F.linear(x, m.weight, m.bias),
    "F.linear, bias after": lambda m, x: F.linear(x, m.weight) + m.bias,
    "addmm": lambda m, x: torch.addmm(m.bias, x, m.weight.T),
    "addmm as a method": lambda m, x: m.bias.addmm(x, m.weight.t()),
    "addmm of halves": lambda m, x: torch.addmm(m.bias, x, m.weight.t(), beta=0.5, alpha=2) * 0.5 + 0.75 * m.bias,
    "x @ W.T + b": lambda m, x: x @ m.weight.T + m.bias,
    "b + x @ W.T": lambda m, x: m.bias + x @ m.weight.T,
    "stored transposed": lambda m, x: x @ m.stored + m.bias,
    "matmul, add": lambda m, x: torch.matmul(x, m.weight.transpose(0, 1)).add(m.bias),
    "mm, iadd": lambda m, x: torch.mm(x, m.stored).add_(m.bias),
    "bias as a row": lambda m, x: x.mm(m.stored) + m.bias.view(1, -1),
    "bias unsqueezed": lambda m, x: m.bias.unsqueeze(0) + x.matmul(m.stored),
    "bias of a plain tensor": lambda m, x: x @ m.stored + m.row,
    "bias expanded": lambda m, x: x @ m.stored + m.bias.expand(x.shape[0], -1),
    "bias expanded as": lambda m, x: (lambda z: z + m.bias.expand_as(z))(x @ m.stored),
    "bias repeated": lambda m, x: x @ m.stored + m.bias.repeat(x.size(0), 1),
    "minus a negative": lambda m, x: x @ m.stored - (-m.bias),
    "einsum": lambda m, x: torch.einsum("ni,oi->no", x, m.weight) + m.bias,
    "einsum of stored": lambda m, x: torch.einsum("io, ni -> no", m.stored, x) + m.bias,
    "einsum to columns": lambda m, x: torch.einsum("ni,oi->on", x, m.weight).T + m.bias,
    "columns": lambda m, x: (m.weight @ x.T + m.bias[:, None]).T,
    "one column per row": lambda m, x: (m.weight @ x.unsqueeze(-1)).squeeze(-1) + m.bias,
    "bmm of one": lambda m, x: torch.bmm(x.unsqueeze(0), m.stored.unsqueeze(0)).squeeze(0) + m.bias,
    "baddbmm of one": lambda m, x: torch.baddbmm(m.bias.view(1, 1, -1), x.unsqueeze(0), m.stored.unsqueeze(0)).squeeze(
        0
    ),
    "sum of terms": lambda m, x: (x.unsqueeze(1) * m.weight).sum(-1) + m.bias,
    "scaled": lambda m, x: 2 * (x @ (0.5 * m.stored) + m.bias / 2),
    "scaled input": lambda m, x: (x / 4) @ m.stored * 4 + m.bias,
    "moved input": lambda m, x: (x + 1) @ m.stored + (m.bias - m.stored.sum(0)),
    "two halves": lambda m, x: x @ (m.stored * 0.25) + F.linear(x, 0.75 * m.weight, m.bias),
    "what nobody reads": lambda m, x: (x.softmax(0), F.linear(x, m.weight, m.bias))[1],
    "casts": lambda m, x: F.linear(x.float(), m.weight.to(torch.float32), m.bias.float()),
    "views": lambda m, x: x.view(x.shape[0], -1).contiguous().flatten(1) @ m.stored + m.bias.clone(),
    "dropout": lambda m, x: F.linear(m.dropout(x), m.weight, m.bias),
}
"""All of them are x W^T + b of the module's ``weight`` and ``bias``."""

RELU: dict[str, Part] = {
    "nn.ReLU": lambda m, z: m.relu(z),
    "F.relu": lambda m, z: F.relu(z),
    "torch.relu": lambda m, z: torch.relu(z),
    "relu as a method": lambda m, z: z.relu(),
    "clamp": lambda m, z: z.clamp(min=0),
    "clamp_min": lambda m, z: torch.clamp_min(z, 0.0),
    "maximum": lambda m, z: torch.maximum(z, torch.zeros_like(z)),
    "max of two": lambda m, z: m.zero.max(z),
    "minus the minimum": lambda m, z: z - torch.minimum(z, m.zero),
    "where": lambda m, z: torch.where(z > 0, z, 0.0),
    "where, the other way": lambda m, z: torch.where(z <= 0, torch.zeros_like(z), z),
    "where of a method": lambda m, z: z.where(~(z < 0), m.zero),
    "times a condition": lambda m, z: z * (z > 0),
    "times a condition of floats": lambda m, z: (z > 0).to(z.dtype) * z,
    "masked": lambda m, z: z.masked_fill(z < 0, 0.0),
    "by the absolute": lambda m, z: (z + z.abs()) / 2,
}
SIGMOID: dict[str, Part] = {
    "nn.Sigmoid": lambda m, z: nn.Sigmoid()(z),
    "torch.sigmoid": lambda m, z: torch.sigmoid(z),
    "F.sigmoid": lambda m, z: F.sigmoid(z),
    "1 / (1 + exp(-z))": lambda m, z: 1 / (1 + torch.exp(-z)),
    "reciprocal": lambda m, z: (z.neg().exp() + 1).reciprocal(),
    "a power": lambda m, z: (1 + (-z).exp()) ** -1,
    "e / (1 + e)": lambda m, z: (lambda e: e / (1 + e))(z.exp()),
    "by tanh": lambda m, z: (torch.tanh(z / 2) + 1) / 2,
    "1 - sigmoid(-z)": lambda m, z: 1 - torch.sigmoid(-z),
}
PRELU: dict[str, Part] = {
    "nn.PReLU": lambda m, z: m.own_prelu(z),
    "F.prelu": lambda m, z: F.prelu(z, m.slope),
    "where": lambda m, z: torch.where(z > 0, z, m.slope * z),
    "two relus": lambda m, z: F.relu(z) - m.slope * F.relu(-z),
    "maximum": lambda m, z: torch.maximum(z, m.slope * z),
    "where, the other way": lambda m, z: torch.where(z < 0, m.slope * z, z),
    "clamped parts": lambda m, z: z.clamp(min=0) + m.slope * z.clamp(max=0),
}
DICE: dict[str, Part] = {
    "the zoo's": lambda m, z: (lambda g: z * (g + m.slope * (1 - g)))(
        torch.sigmoid(F.batch_norm(z, m.norm.running_mean, m.norm.running_var, eps=m.norm.eps))
    ),
    "by a module": lambda m, z: (lambda g: g * z + (1 - g) * m.slope * z)(m.norm(z).sigmoid()),
    "by hand": lambda m, z: (lambda g: m.slope * z + (1 - m.slope) * z * g)(
        1 / (1 + torch.exp((m.norm.running_mean - z) / (m.norm.running_var + m.norm.eps).sqrt()))
    ),
}
SILU: dict[str, Part] = {
    "nn.SiLU": lambda m, z: nn.SiLU()(z),
    "F.silu": lambda m, z: F.silu(z, inplace=True),
    "z * sigmoid(z)": lambda m, z: z * torch.sigmoid(z),
    "z / (1 + exp(-z))": lambda m, z: z / (1 + torch.exp(-z)),
}
NONE: dict[str, Part] = {"nothing": lambda m, z: z, "identity": lambda m, z: nn.Identity()(z).contiguous()}
ACTIVATIONS = {"none": NONE, "relu": RELU, "sigmoid": SIGMOID, "prelu": PRELU, "dice": DICE, "silu": SILU}
"""Forms by what they compute; SiLU is Dice of slope 0 and a gate of z itself."""

_x, _z = LINEAR["x @ W.T + b"], NONE["nothing"]
LOOK_ALIKES: dict[str, tuple[Part, Part, str]] = {
    "a negative side that is not 0": (
        _x,
        lambda m, z: torch.where(z > 0, z, 0.1),
        "node 'where': an activation that jumps",
    ),
    "no number below 0": (_x, lambda m, z: torch.where(z > 0, z, float("nan")), "node 'where': .*not finite"),
    "masked without end": (_x, lambda m, z: z.masked_fill(z < 0, -torch.inf), "not finite"),
    "a condition of another bound": (_x, lambda m, z: z * (z > 0.5), "jumps"),
    "clamped on both sides": (
        _x,
        lambda m, z: z.clamp(min=0, max=6),
        "node 'clamp': something that has been activated",
    ),
    "clamped above": (_x, lambda m, z: z.clamp(max=0), "nowhere positive"),
    "clamped at 1": (_x, lambda m, z: z.clamp(min=1), "kink does not lie in 0"),
    "an absolute": (_x, lambda m, z: -z.abs(), "nowhere positive"),
    "tanh": (_x, lambda m, z: torch.tanh(z), "scaled or shifted"),
    "gelu": (_x, lambda m, z: F.gelu(z), "node 'gelu'"),
    "softplus": (_x, lambda m, z: F.softplus(z), "node 'softplus'"),
    "softmax": (_x, lambda m, z: z.softmax(-1), "node 'softmax'"),
    "another sigmoid's gate": (
        lambda m, x: F.linear(x, m.weight, m.bias) * torch.sigmoid(F.linear(x, m.weight.flip(0), m.bias)),
        _z,
        "node 'mul': two different products",
    ),
    "a gate of the input": (lambda m, x: F.linear(x * torch.sigmoid(x), m.weight), _z, "node 'sigmoid'"),
    "the input besides": (lambda m, x: F.linear(x, m.weight[:, :1] * m.weight.T[:1].T) + x, _z, "node 'add'"),
    "a bias per row": (lambda m, x: x @ m.stored + torch.ones(7, 1), _z, "differs by row"),
    "a product of a product": (lambda m, x: F.linear(x, m.stored @ m.weight) @ m.stored, _z, "product of a product"),
    "the input times itself": (lambda m, x: (x @ x.T) @ torch.ones(7, 1), _z, "node 'matmul'"),
    "activated twice": (_x, lambda m, z: torch.sigmoid(torch.relu(z)), "node 'sigmoid'"),
    "a square": (_x, lambda m, z: torch.relu(z) * torch.relu(z), "no activation of the kernels"),
    "two gates": (_x, lambda m, z: z.sigmoid() * (z + 1).sigmoid(), "no activation of the kernels"),
    "a shifted gate": (_x, lambda m, z: (z + 1) * torch.sigmoid(z) + z, "own line"),
    "a branch on the data": (_x, lambda m, z: z if z.sum() > 0 else -z, "has no graph"),
    "a loop over rows": (_x, lambda m, z: torch.stack(list(z)), "has no graph"),
    "an exponential alone": (_x, lambda m, z: z.exp(), "no activated product"),
    "1 / (1 - exp(-z))": (_x, lambda m, z: 1 / (1 - torch.exp(-z)), "no sigmoid"),
    "statistics of the batch": (_x, lambda m, z: F.batch_norm(z, None, None, training=True), "statistics of the batch"),
    "centred on the batch": (_x, lambda m, z: z - z.mean(0), "node 'mean'"),
    "divided by the rows": (_x, lambda m, z: z / z.shape[0], "do not agree"),
    "dropout switched on": (_x, lambda m, z: F.dropout(z, 0.5, training=True), "switched on"),
    "random": (_x, lambda m, z: z + torch.rand(z.shape[1]), "do not agree|has no graph"),
    "changed behind its back": (_x, lambda m, z: (z.relu_(), z)[1], "do not agree"),
    "half precision": (_x, lambda m, z: z.to(torch.float16), "cast"),
    "rows as columns": (_x, lambda m, z: z.T, "does not lie as rows and outputs"),
    "a constant": (_x, lambda m, z: z * 0 + 1, "does not depend"),
    "a list": (_x, lambda m, z: [z], "no activated product"),
    "part of the input": (lambda m, x: x[:, 1:] @ m.stored[1:], _z, "node 'getitem'"),
    "a maximum along an axis": (_x, lambda m, z: z.max(0), "node 'max"),
}
"""Linear part, activation, and what the reason for refusing it has to say."""
