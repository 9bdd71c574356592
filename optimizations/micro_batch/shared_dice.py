"""Dice over a batch whose parts are in several threads: mean and variance are those of the whole batch.

Dice normalises by the statistics of the mini-batch (Zhou et al., 2018, section 5.3). Those of a part are others, so
that a batch in parts would learn something else. Forward, the threads exchange counts, means and sums of squared
deviations (combined as by Chan, Golub and LeVeque, 1983); backward, the two sums of the gradient of batch
normalisation (Ioffe and Szegedy, 2015, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optimizations.micro_batch.meeting import Meeting
from zoo.layers.mlp import DICE_EPS, DICE_MOMENTUM, Dice

Moments = tuple[int, Tensor, Tensor]
"""Number of rows, mean [outputs] and sum of squared deviations from it [outputs]."""


class SharedDice(nn.Module):
    """``Dice`` with the parameter and the buffers of ``reference``, at ``place`` of the meeting that is under way."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, reference: Dice, meeting: Callable[[], Meeting[Any]], place: int) -> None:
        super().__init__()
        self.alpha = reference.alpha
        self.register_buffer("running_mean", reference.running_mean)
        self.register_buffer("running_var", reference.running_var)
        self._meeting, self._place = meeting, place

    def forward(self, x: Tensor) -> Tensor:
        """[R, outputs] of this part to the same; a single row in all parts is judged by the moving averages."""
        meeting = self._meeting()
        with torch.no_grad():
            rows, mean, squares = combined(meeting.exchange(self._place, moments(x)))
        if rows > 1:
            if self._place == 0:
                self._remember(rows, mean, squares)
            inverse = (squares / rows + DICE_EPS).rsqrt()
            scaled: Tensor = _Normalised.apply(x, mean, inverse, rows, meeting, self._place)
        else:
            scaled = (x - self.running_mean) * (self.running_var + DICE_EPS).rsqrt()
        gate = torch.sigmoid(scaled)
        return x * (gate + self.alpha * (1 - gate))

    @torch.no_grad()
    def _remember(self, rows: int, mean: Tensor, squares: Tensor) -> None:
        """Move the averages; the variance is the unbiased one, as ``torch.nn.functional.batch_norm`` keeps it."""
        self.running_mean.mul_(1 - DICE_MOMENTUM).add_(mean, alpha=DICE_MOMENTUM)
        self.running_var.mul_(1 - DICE_MOMENTUM).add_(squares / (rows - 1), alpha=DICE_MOMENTUM)


class _Normalised(torch.autograd.Function):
    """(x - mean) * inverse, where mean and inverse depend on the rows of all parts."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, mean: Tensor, inverse: Tensor, rows: int, meeting: Meeting[Any], place: int
    ) -> Tensor:
        scaled = (x - mean) * inverse
        ctx.save_for_backward(scaled, inverse)
        ctx.rows, ctx.meeting, ctx.place = rows, meeting, place
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scaled, inverse = ctx.saved_tensors
        own = torch.stack((gradient.sum(0), (gradient * scaled).sum(0)))
        mean, slope = (torch.stack(ctx.meeting.exchange(ctx.place, own)).sum(0) / ctx.rows).unbind(0)
        return inverse * (gradient - mean - scaled * slope), None, None, None, None, None


def moments(x: Tensor) -> Moments:
    """Of rows [R, outputs]; zeros where there are none."""
    if not len(x):
        nothing = x.new_zeros(x.shape[1])
        return 0, nothing, nothing
    mean = x.mean(0)
    return len(x), mean, (x - mean).square().sum(0)


def combined(parts: Sequence[Moments]) -> Moments:
    """The moments of the rows of all parts together."""
    rows = sum(count for count, _, _ in parts)
    mean = torch.stack([mean * (count / max(1, rows)) for count, mean, _ in parts]).sum(0)
    squares = torch.stack([own + (theirs - mean).square() * count for count, theirs, own in parts]).sum(0)
    return rows, mean, squares
