"""Optimizers whose step costs what a batch touches: Adagrad for embeddings, FTRL-Proximal for the wide part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.training_config import TrainingConfig

Rows = Tensor | slice


class RowOptimizer(torch.optim.Optimizer):
    """Steps over the rows that have a gradient: all of them if it is dense, the touched ones if it is sparse."""

    def __init__(self, params: Iterable[nn.Parameter], **defaults: float) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse:
                    gradient = parameter.grad.coalesce()
                    self._update(parameter, gradient.indices()[0], gradient.values(), group)
                else:
                    self._update(parameter, slice(None), parameter.grad, group)

    def derive(self) -> None:
        """Make what a step derives from the rows of its gradients alone (``zoo.layers.derived``), and move nothing.
        Here that is nothing: the framework coalesces."""

    def _update(self, parameter: nn.Parameter, rows: Rows, gradient: Tensor, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _state(self, parameter: nn.Parameter, name: str, initial: float = 0.0) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.full_like(parameter, initial)
        found: Tensor = state[name]
        return found


class Adagrad(RowOptimizer):
    """Adagrad (Duchi et al., 2011): s += g^2; w -= lr g / (sqrt(s) + eps).

    Equal to ``torch.optim.Adagrad`` on the dense gradient: a row without a gradient would not move there either.
    ``l2`` adds l2 * w to the gradient of the touched rows only. ``initial`` is where s starts: at 0, the first step of
    a row is lr in every column however small its gradient is, so that a rare id is learned by heart.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, l2: float = 0.0, initial: float = 0.0, eps: float = 1e-10
    ) -> None:
        super().__init__(params, lr=lr, l2=l2, initial=initial, eps=eps)

    def _update(self, parameter: nn.Parameter, rows: Rows, gradient: Tensor, group: dict[str, Any]) -> None:
        weights, total = parameter[rows], self._state(parameter, "sum", group["initial"])
        if group["l2"] > 0:
            gradient = gradient + group["l2"] * weights
        squares = total[rows].addcmul(gradient, gradient)
        total[rows] = squares
        parameter[rows] = weights.addcdiv(gradient, squares.sqrt().add(group["eps"]), value=-group["lr"])


class FtrlProximal(RowOptimizer):
    """FTRL-Proximal, per coordinate (McMahan et al., "Ad Click Prediction", 2013, algorithm 1). Weights start at 0."""

    def __init__(
        self, params: Iterable[nn.Parameter], alpha: float, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0
    ) -> None:
        super().__init__(params, alpha=alpha, beta=beta, l1=l1, l2=l2)

    def _update(self, parameter: nn.Parameter, rows: Rows, gradient: Tensor, group: dict[str, Any]) -> None:
        weights, z_all, n_all = parameter[rows], self._state(parameter, "z"), self._state(parameter, "n")
        n_old = n_all[rows]
        n_new = n_old + gradient * gradient
        sigma = (n_new.sqrt() - n_old.sqrt()) / group["alpha"]
        z = z_all[rows] + gradient - sigma * weights
        z_all[rows], n_all[rows] = z, n_new
        shrunk = torch.sign(z) * (z.abs() - group["l1"]).clamp(min=0)
        parameter[rows] = -shrunk / ((group["beta"] + n_new.sqrt()) / group["alpha"] + group["l2"])


def build_optimizers(
    model: nn.Module,
    training: TrainingConfig,
    adagrad: type[Adagrad] = Adagrad,
    ftrl: type[FtrlProximal] = FtrlProximal,
    adam: type[torch.optim.Adam] = torch.optim.Adam,
) -> list[torch.optim.Optimizer]:
    """Adagrad on embedding tables, FTRL on wide weights, Adam on everything else.

    ``adagrad``, ``ftrl``, ``adam``: other implementations of the same.
    """
    tables = _parameters_of(model, EmbeddingTables)
    wide = _parameters_of(model, WideTables)
    special = {id(parameter) for parameter in (*tables, *wide)}
    dense = [parameter for parameter in model.parameters() if id(parameter) not in special]
    optimizers: list[torch.optim.Optimizer] = [adam(dense, lr=training.dense_lr, fused=True)]
    if tables:
        initial = training.embedding_accumulator
        optimizers.append(adagrad(tables, training.embedding_lr, l2=training.embedding_l2, initial=initial))
    if wide:
        l1, l2 = training.wide_l1, training.wide_l2
        optimizers.append(ftrl(wide, training.wide_lr, beta=training.wide_beta, l1=l1, l2=l2))
    return optimizers


def rate_schedules(
    optimizers: Iterable[torch.optim.Optimizer], steps: int, final_share: float
) -> list[torch.optim.lr_scheduler.LRScheduler]:
    """Linear schedules from the full rate before the first of ``steps`` to ``final_share`` of it at the last one, and
    from there on.

    FTRL-Proximal has no rate of its own: its steps shrink with the gradients that a coordinate has seen.
    """
    return [
        torch.optim.lr_scheduler.LambdaLR(
            each, lambda step: 1.0 - (1.0 - final_share) * min(step, steps - 1) / max(1, steps - 1)
        )
        for each in optimizers
        if "lr" in each.defaults
    ]


def _parameters_of(model: nn.Module, kind: type[nn.Module]) -> list[nn.Parameter]:
    return [p for module in model.modules() if isinstance(module, kind) for p in module.parameters()]
