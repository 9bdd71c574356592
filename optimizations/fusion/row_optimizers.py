"""Adagrad and FTRL-Proximal of the zoo in one native call for all tables, without coalescing their gradients first.

A row's gradients are added in their order and its update is rounded operator by operator, as the framework does it; the
state keeps its names, and dense gradients go the framework's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optimizations.fusion.dense_optimizer import FusedAdam
from optimizations.fusion.row_order import RowOrder, row_order
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import RowStep
from zoo.optimizers import Adagrad, FtrlProximal, build_optimizers
from zoo.training_config import TrainingConfig

Touched = list[tuple[nn.Parameter, Tensor, Tensor]]
"""A table, the rows [n] of its gradient and their vectors [n, width], each vector without gaps."""


def fused_optimizers(model: nn.Module, training: TrainingConfig) -> list[torch.optim.Optimizer]:
    """``zoo.optimizers.build_optimizers``; raises KernelsUnavailable where the kernels cannot be built."""
    load_kernels()
    return build_optimizers(model, training, adagrad=FusedAdagrad, ftrl=FusedFtrl, adam=FusedAdam)


class FusedAdagrad(Adagrad):
    """See ``zoo.optimizers.Adagrad``."""

    def derive(self) -> None:
        """The order of the rows that the gradients touch."""
        _derive(self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            touched = _touched(group, lambda parameter, group=group: self._dense(parameter, group))
            states = [(self._state(parameter, "sum", group["initial"]),) for parameter, _, _ in touched]
            rates = (group["lr"], group["l2"], group["eps"])
            _run("recarena_adagrad", touched, states, rates)

    def _dense(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        self._update(parameter, slice(None), parameter.grad, group)


class FusedFtrl(FtrlProximal):
    """See ``zoo.optimizers.FtrlProximal``."""

    def derive(self) -> None:
        """The order of the rows that the gradients touch."""
        _derive(self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            touched = _touched(group, lambda parameter, group=group: self._dense(parameter, group))
            states = [tuple(self._state(parameter, name) for name in ("z", "n")) for parameter, _, _ in touched]
            rates = tuple(group[name] for name in ("alpha", "beta", "l1", "l2"))
            _run("recarena_ftrl", touched, states, rates)

    def _dense(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        self._update(parameter, slice(None), parameter.grad, group)


def _touched(group: dict[str, Any], dense: Callable[[nn.Parameter], None]) -> Touched:
    """The tables with a gradient by rows; other parameters are moved by ``dense``."""
    found: Touched = []
    for parameter in group["params"]:
        gradient = parameter.grad
        if gradient is None:
            continue
        if gradient.is_sparse and parameter.dtype == torch.float32 and parameter.is_contiguous():
            vectors = gradient._values()
            vectors = vectors if vectors.stride(1) == 1 or vectors.shape[1] == 1 else vectors.contiguous()
            found.append((parameter, gradient._indices()[0], vectors))
        elif gradient.is_sparse:
            raise TypeError(f"the fused optimizers move tables of contiguous floats, not of {parameter.dtype}")
        else:
            dense(parameter)
    return found


def _derive(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        _order(_touched(group, lambda parameter: None))


def _order(touched: Touched) -> RowOrder:
    return row_order(tuple(rows for _, rows, _ in touched), tuple(len(parameter) for parameter, _, _ in touched))


def _run(name: str, touched: Touched, states: list[tuple[Tensor, ...]], rates: tuple[float, ...]) -> None:
    if not touched:
        return
    found, place = _order(touched), 0
    steps = (RowStep * len(touched))()
    for k, ((parameter, rows, vectors), kept) in enumerate(zip(touched, states, strict=True)):
        own = [state.data_ptr() for state in kept]
        steps[k] = RowStep(
            *(rows.data_ptr(), vectors.data_ptr(), rows.stride(0), vectors.stride(0)),
            *(len(rows), parameter.shape[1], parameter.shape[0], parameter.data_ptr()),
            *(own[0], own[-1], found.order.data_ptr() + 4 * place, found.starts.data_ptr() + 4 * (place + k)),
            found.groups[k],
        )
        place += len(rows)
    getattr(load_kernels(), name)(steps, len(touched), *rates, torch.get_num_threads())
