"""Activation units in the framework's operators, their first layer taken apart: [q, k, q - k, q * k] is never written.

W [q, k, q - k, q * k] = (W1 + W3) q + (W2 - W3) k + W4 (q * k): the candidate's part is computed once per sample and
not once per behaviour, and half of the columns are multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from optimizations.fusion.packed_rows import RepeatRows, TakeRows
from zoo.layers.attention import ActivationUnit, real_steps


class TakenApart(ActivationUnit):
    """Takes the place of the class in ``ActivationUnit`` that rates behaviours."""

    def relevance(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """See ``ActivationUnit.relevance``."""
        if not self.training or self.units.dropout > 0:  # which acts between layers that are one here
            return super().relevance(query, keys, mask)
        first = self.units[0]
        of_query, of_key, of_difference, of_product = first.linear.weight.chunk(4, 1)
        _, real = real_steps(mask)
        once = F.linear(query, of_query + of_difference, first.linear.bias)
        repeated = RepeatRows.apply(torch.cat((once, query), 1), mask.sum(1))
        outputs = once.shape[1]
        own = TakeRows.apply(keys.flatten(0, 1), real)
        columns = torch.cat((own, repeated[:, outputs:] * own), 1)
        weight = torch.cat((of_key - of_difference, of_product), 1)
        x = first.activation(torch.addmm(repeated[:, :outputs], columns, weight.t()))
        for layer in list(self.units)[1:]:
            x = layer(x)
        return keys.new_zeros(mask.shape).masked_scatter(mask, self.score(x))
