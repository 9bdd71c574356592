"""Exponential moving average of a model's weights (Polyak and Juditsky, 1992), for evaluation and for the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.optimizers import Rows


class WeightAverage:
    """Mean of the weights w_1 ... w_t after each step, w_i weighted by decay^(t - i).

    A step costs what it touches: a row without a gradient keeps its weights, so that the steps it missed are made
    up for at once when it is touched again or looked at. Buffers, moving averages themselves, stay the model's own.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._kept = [_Kept(parameter) for parameter in model.parameters()]

    def before_step(self) -> None:
        """Take in the weights so far, while the gradients tell which of them the optimizers are about to change."""
        for kept in self._kept:
            rows = kept.changing()
            if rows is not None:
                self._catch_up(kept, rows)
        self._steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The means, and how far each row of them has come."""
        kept = [{"mean": each.mean, "steps": each.steps, "touched": each.touched} for each in self._kept]
        return {"steps": self._steps, "kept": kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the averages of a model with the same parameters."""
        self._steps = state["steps"]
        for own, kept in zip(self._kept, state["kept"], strict=True):
            for name in ("mean", "steps", "touched"):
                getattr(own, name).copy_(kept[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights within, its own again afterwards."""
        for kept in self._kept:
            self._catch_up(kept, kept.changed())
            kept.swap()
        try:
            yield
        finally:
            for kept in self._kept:
                kept.swap()

    @torch.no_grad()
    def _catch_up(self, kept: _Kept, rows: Rows) -> None:
        """With w unchanged since step s: mean_t - w = (mean_s - w) decay^(t - s) (1 - decay^s) / (1 - decay^t)."""
        if self._steps == 0:
            return
        seen = kept.steps[rows].double()
        share = self._decay ** (self._steps - seen) * (1 - self._decay**seen) / (1 - self._decay**self._steps)
        weights = kept.parameter[rows]
        share = share.to(weights.dtype).view(-1, *[1] * (weights.dim() - 1))
        kept.mean[rows] = weights + (kept.mean[rows] - weights) * share
        kept.steps[rows] = self._steps


class _Kept:
    """A parameter, its mean [R, ...], up to which step each of its R rows has been taken in, and which rows ever had a
    gradient."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.mean = parameter.detach().clone()
        self.steps = torch.zeros(len(parameter), dtype=torch.int64)
        self.touched = torch.zeros(len(parameter), dtype=torch.bool)

    def changing(self) -> Rows | None:
        """The rows that have a gradient; None without any."""
        gradient = self.parameter.grad
        if gradient is None:
            return None
        # coalescing is kept: the optimizer, which needs it too, then finds it done
        self.parameter.grad = gradient = gradient.coalesce() if gradient.is_sparse else gradient
        rows = gradient.indices()[0] if gradient.is_sparse else slice(None)
        self.touched[rows] = True
        return rows

    def changed(self) -> Tensor:
        """The rows that ever had a gradient: the mean of any other one is its weights."""
        return self.touched.nonzero().squeeze(1)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and mean."""
        rows = self.changed()
        weights = self.parameter[rows]
        self.parameter[rows] = self.mean[rows]
        self.mean[rows] = weights
