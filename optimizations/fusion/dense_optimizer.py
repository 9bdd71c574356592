"""Adam on all dense parameters in one native call; the state keeps its names."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import AdamRates, DenseStep


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam`` without weight decay or any other of its variants, of contiguous float32 parameters."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            moved = [(each, each.grad.contiguous()) for each in group["params"] if each.grad is not None]
            for parameter, _ in moved:
                self._begin(parameter)
            by_step: dict[float, list[tuple[nn.Parameter, Tensor]]] = {}
            for each in moved:
                by_step.setdefault(float(self.state[each[0]]["step"]), []).append(each)
            for done, some in by_step.items():
                self._move(group, some, done + 1)
            if moved:
                torch._foreach_add_([self.state[parameter]["step"] for parameter, _ in moved], 1)

    def _begin(self, parameter: nn.Parameter) -> None:
        if not self.state[parameter]:
            averages = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            self.state[parameter].update(step=torch.zeros(()), **averages)

    def _move(self, group: dict[str, Any], some: list[tuple[nn.Parameter, Tensor]], step: float) -> None:
        beta1, beta2 = group["betas"]
        rates = AdamRates(group["lr"] / (1 - beta1**step), beta1, beta2, group["eps"], (1 - beta2**step) ** 0.5)
        steps = (DenseStep * len(some))()
        for entry, (parameter, gradient) in zip(steps, some, strict=True):
            state = self.state[parameter]
            entry.gradient, entry.count, entry.weights = gradient.data_ptr(), gradient.numel(), parameter.data_ptr()
            entry.mean, entry.square = state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr()
        load_kernels().recarena_adam(steps, len(some), ctypes.byref(rates), torch.get_num_threads())
