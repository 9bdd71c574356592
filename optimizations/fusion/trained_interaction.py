"""DLRM's dot products in training: forward by the kernel that serves them, and the way back in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optimizations.fusion.row_pieces import in_rows
from optimizations.kernels.interface import FP32
from optimizations.kernels.loader import load_kernels
from optimizations.lowering import LoweringError
from zoo.layers.interaction import DotInteraction


class TrainedInteraction(nn.Module):
    """Same signature as ``DotInteraction``."""

    def forward(self, vectors: Tensor) -> Tensor:
        """See ``DotInteraction.forward``."""
        found: Tensor = _Triangle.apply(vectors)
        return found


class _Triangle(torch.autograd.Function):
    """The strict lower triangle of the Gram matrix of vectors [N, F, d], row by row."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:  # type: ignore[override]
        vectors = vectors.contiguous()
        ctx.save_for_backward(vectors)
        samples, count, width = vectors.shape
        out = vectors.new_empty(samples, count * (count - 1) // 2)
        sizes = (samples, count, width)
        load_kernels().recarena_interaction_run(
            vectors.data_ptr(), *sizes, out.data_ptr(), FP32, torch.get_num_threads()
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (vectors,) = ctx.saved_tensors
        gradient, out = in_rows(gradient), torch.empty_like(vectors)  # columns of a wider one, more often than not
        where = (vectors.data_ptr(), gradient.data_ptr(), gradient.stride(0))
        threads = torch.get_num_threads()
        load_kernels().recarena_interaction_back(*where, *vectors.shape, out.data_ptr(), threads)
        return out


def trained_interaction(reference: nn.Module) -> nn.Module:
    """On the native kernels. Raises LoweringError for an interaction of another kind."""
    if type(reference) is not DotInteraction:
        raise LoweringError(f"a {type(reference).__name__} is not trained in one call: its products are not known")
    return TrainedInteraction()
