"""The recurrences of DIEN as operators of ONNX that run any number of steps, at least one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from zoo.layers.augru import Augru, Gru
from zoo.layers.ragged import step_mask, to_samples

GRU_OPSET = 14
"""The version of ONNX's GRU (its last change of form)."""


class OperatorGru(Gru):
    """``Gru`` that becomes one operator GRU. (The exporter's own translation fixes the number of steps.)"""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [U, T, inputs] to states [U, T, h], zero past ``lengths`` [U]."""
        if not torch.compiler.is_exporting():
            return super().forward(x, lengths)
        hidden = self.weight_hh.shape[1]
        inputs, states = _gates_of_onnx(self.weight_ih), _gates_of_onnx(self.weight_hh)
        biases = torch.cat((_gates_of_onnx(self.bias_ih), _gates_of_onnx(self.bias_hh)))
        found: Tensor = torch.onnx.ops.symbolic(
            "GRU",
            (x.transpose(0, 1), inputs.unsqueeze(0), states.unsqueeze(0), biases.unsqueeze(0)),
            attrs={"hidden_size": hidden, "linear_before_reset": 1},  # as in nn.GRU: r * (U h + b)
            dtype=x.dtype,
            shape=(x.shape[1], 1, x.shape[0], hidden),
            version=GRU_OPSET,
        )
        return found.squeeze(1).transpose(0, 1) * step_mask(lengths, x.shape[1]).unsqueeze(-1)


class ScanAugru(Augru):
    """``Augru`` with its steps as one Scan, whose length the graph does not fix. (Runtimes refuse a length of 0.)"""

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """x [U, T, inputs], scores [N, T] to the last state [N, h]."""
        gates = to_samples(F.linear(x, self.weight_ih, self.bias_ih), user_of)
        attention = (scores * step_mask(to_samples(lengths, user_of), x.shape[1])).unsqueeze(-1)
        first = x.new_zeros(scores.shape[0], self.weight_hh.shape[1])

        def step(state: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            following = self._step(at[0], at[1], state)
            return following, following.clone()

        last, _ = scan(step, first, (gates.transpose(0, 1), attention.transpose(0, 1)))
        return last


def _gates_of_onnx(stacked: Tensor) -> Tensor:
    """reset, update, candidate to update, reset, candidate."""
    hidden = stacked.shape[0] // 3
    # Slices, not chunks: those the exporter folds into the weights.
    return torch.cat((stacked[hidden : 2 * hidden], stacked[:hidden], stacked[2 * hidden :]))
