"""Adam on all dense parameters in one native call; the state keeps its names."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import AdamRates, DenseStep

KEPT = ("exp_avg", "exp_avg_sq", "step")


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam`` without weight decay or any other of its variants, of contiguous float32 parameters."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the step before; zeros are not supported."""
        for group in self.param_groups:
            forget_gradients(group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad.contiguous() for parameter in moved]
            states = [self._begun(parameter) for parameter in moved]
            steps = (DenseStep * len(moved))(
                *(
                    (
                        gradient.data_ptr(),
                        gradient.numel(),
                        parameter.data_ptr(),
                        *(state[name].data_ptr() for name in KEPT),
                    )
                    for parameter, gradient, state in zip(moved, gradients, states, strict=True)
                )
            )
            rates = AdamRates(group["lr"], *group["betas"], group["eps"])
            load_kernels().recarena_adam(steps, len(moved), ctypes.byref(rates), torch.get_num_threads())

    def _begun(self, parameter: nn.Parameter) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            averages = {name: torch.zeros_like(parameter) for name in KEPT[:2]}
            state.update(step=torch.zeros(()), **averages)
        return state


def forget_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """What ``zero_grad`` of the framework does, without what it tells its profiler and compiler of it."""
    for parameter in parameters:
        parameter.grad = None
