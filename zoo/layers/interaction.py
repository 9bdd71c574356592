"""Pairwise dot products between feature vectors (DLRM: Naumov et al., 2019, section 2.1.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DotInteraction(nn.Module):
    """All dot products of pairs i > j: vectors [N, F, d] to [N, F (F - 1) / 2], ordered (1,0), (2,0), (2,1), ..."""

    pairs: Tensor

    def __init__(self, vectors: int) -> None:
        super().__init__()
        row, column = torch.tril_indices(vectors, vectors, offset=-1)
        self.register_buffer("pairs", row * vectors + column, persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """The strict lower triangle of the Gram matrix, row by row."""
        gram = torch.bmm(vectors, vectors.transpose(1, 2))
        return gram.flatten(1).index_select(1, self.pairs)
