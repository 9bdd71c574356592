"""A fully connected layer with Dice in training: its product and its activation in one native call each way."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optimizations.fusion.trained_dense import NativeLinear
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import DiceCall
from optimizations.lowering import LoweringError
from zoo.layers.mlp import DICE_MOMENTUM, Dice, FullyConnected


class TrainedDice(FullyConnected):
    """``FullyConnected`` with Dice, with the parameters of ``reference`` under the same names."""

    def __init__(self, reference: FullyConnected) -> None:
        nn.Module.__init__(self)
        self.linear, self.activation = NativeLinear(reference.linear), reference.activation
        self.kind = reference.kind

    def forward(self, x: Tensor) -> Tensor:
        """See ``FullyConnected.forward``."""
        # What normalises by more than these rows (SharedDice), or by the moving averages, is the framework's.
        if not self.training or type(self.activation) is not Dice or len(x) < 2:
            return super().forward(x)
        found: Tensor = _BatchDice.apply(self.linear(x), self.activation.alpha, self.activation)
        return found


class _BatchDice(torch.autograd.Function):
    """Dice of x [R, outputs] by the statistics of its rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, dice: Dice) -> Tensor:  # type: ignore[override]
        x = x.contiguous()
        statistics, y = x.new_empty(3, x.shape[1]), torch.empty_like(x)
        call = _described(x, alpha, statistics)
        load_kernels().recarena_dice_forward(ctypes.byref(call), y.data_ptr(), torch.get_num_threads())
        remember(dice, statistics[0], statistics[2], len(x))
        ctx.save_for_backward(x, alpha, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, alpha, statistics = ctx.saved_tensors
        gradient, to_x, to_alpha = gradient.contiguous(), torch.empty_like(x), torch.empty_like(alpha)
        call = _described(x, alpha, statistics)
        pointers = (each.data_ptr() for each in (gradient, to_x, to_alpha))
        load_kernels().recarena_dice_backward(ctypes.byref(call), *pointers, torch.get_num_threads())
        return to_x, to_alpha, None


def _described(x: Tensor, alpha: Tensor, statistics: Tensor) -> DiceCall:
    return DiceCall(x.data_ptr(), alpha.data_ptr(), *x.shape, *(each.data_ptr() for each in statistics))


@torch.no_grad()
def remember(dice: Dice, mean: Tensor, squares: Tensor, rows: int) -> None:
    """Move the averages as ``torch.nn.functional.batch_norm`` does: by the mean, and by the unbiased variance. mean,
    squares (of the deviations from it): [outputs] or longer."""
    outputs = len(dice.alpha)
    dice.running_mean.lerp_(mean[:outputs], DICE_MOMENTUM)
    dice.running_var.lerp_(squares[:outputs] / (rows - 1), DICE_MOMENTUM)


def trained_dice(reference: nn.Module) -> nn.Module:
    """``reference`` with its activation on the native kernels. Raises LoweringError for a layer of another kind."""
    if type(reference) is not FullyConnected or type(reference.activation) is not Dice:
        raise LoweringError(f"a {type(reference).__name__} is not trained in one call: it is no layer with Dice")
    return TrainedDice(reference)
