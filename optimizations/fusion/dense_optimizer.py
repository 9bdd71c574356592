"""Adam on all dense parameters in one native call; the state keeps its names."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import AdamRates, DenseStep

KEPT = ("exp_avg", "exp_avg_sq")


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam`` without weight decay or any other of its variants, of contiguous float32 parameters."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            by_step: dict[float, list[tuple[nn.Parameter, dict[str, Any]]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self._begun(parameter)
                    by_step.setdefault(state["step"].item(), []).append((parameter, state))
            for done, some in by_step.items():
                self._move(group, some, done + 1)
                torch._foreach_add_([state["step"] for _, state in some], 1)

    def _begun(self, parameter: nn.Parameter) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            averages = {name: torch.zeros_like(parameter) for name in KEPT}
            state.update(step=torch.zeros(()), **averages)
        return state

    def _move(self, group: dict[str, Any], some: list[tuple[nn.Parameter, dict[str, Any]]], step: float) -> None:
        beta1, beta2 = group["betas"]
        rate, root = group["lr"] / (1 - beta1**step), (1 - beta2**step) ** 0.5
        rates = AdamRates(rate, 1 - beta1, beta2, 1 - beta2, group["eps"], root)
        gradients = [parameter.grad.contiguous() for parameter, _ in some if parameter.grad is not None]
        steps = (DenseStep * len(some))(
            *(
                (
                    gradient.data_ptr(),
                    gradient.numel(),
                    parameter.data_ptr(),
                    *(state[name].data_ptr() for name in KEPT),
                )
                for gradient, (parameter, state) in zip(gradients, some, strict=True)
            )
        )
        load_kernels().recarena_adam(steps, len(some), ctypes.byref(rates), torch.get_num_threads())
