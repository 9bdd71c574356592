"""Adagrad and FTRL-Proximal of the zoo in one native call for all tables, without coalescing their gradients first.

A row's gradients are added in their order and its update is rounded operator by operator, as the framework does it; the
state keeps its names, and dense gradients go the framework's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optimizations.fusion.dense_optimizer import FusedAdam, forget_gradients
from optimizations.fusion.row_order import RowOrder, row_order
from optimizations.fusion.row_pieces import Piece, described, forget_pieces, in_rows, keep_pieces, pieces_of
from optimizations.fusion.trained_tables import TrainedTables, TrainedWide
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import RowStep
from zoo.optimizers import Adagrad, FtrlProximal, build_optimizers
from zoo.training_config import TrainingConfig

Touched = list[tuple[nn.Parameter, list[Piece]]]
"""A table and the pieces of its gradient."""


def fused_optimizers(model: nn.Module, training: TrainingConfig) -> list[torch.optim.Optimizer]:
    """``zoo.optimizers.build_optimizers``; raises KernelsUnavailable where the kernels cannot be built."""
    load_kernels()
    if not training.average:  # averages, too, follow the rows that have a gradient
        for tables in (each for each in model.modules() if isinstance(each, TrainedTables | TrainedWide)):
            for table in tables.by_rows():
                keep_pieces(table)
    return build_optimizers(model, training, adagrad=FusedAdagrad, ftrl=FusedFtrl, adam=FusedAdam)


class FusedAdagrad(Adagrad):
    """See ``zoo.optimizers.Adagrad``."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the step before; zeros are not supported."""
        _forget(self.param_groups)

    def derive(self) -> None:
        """The order of the rows that the gradients touch."""
        _derive(self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            touched = _touched(group, lambda parameter, group=group: self._dense(parameter, group))
            states = [(self._state(parameter, "sum", group["initial"]),) for parameter, _ in touched]
            rates = (group["lr"], group["l2"], group["eps"])
            _run("recarena_adagrad", touched, states, rates)

    def _dense(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        self._update(parameter, slice(None), parameter.grad, group)


class FusedFtrl(FtrlProximal):
    """See ``zoo.optimizers.FtrlProximal``."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the step before; zeros are not supported."""
        _forget(self.param_groups)

    def derive(self) -> None:
        """The order of the rows that the gradients touch."""
        _derive(self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every parameter that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            touched = _touched(group, lambda parameter, group=group: self._dense(parameter, group))
            states = [tuple(self._state(parameter, name) for name in ("z", "n")) for parameter, _ in touched]
            rates = tuple(group[name] for name in ("alpha", "beta", "l1", "l2"))
            _run("recarena_ftrl", touched, states, rates)

    def _dense(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        self._update(parameter, slice(None), parameter.grad, group)


def _forget(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        forget_pieces(group["params"])
        forget_gradients(group["params"])


def _touched(group: dict[str, Any], dense: Callable[[nn.Parameter], None]) -> Touched:
    """The tables with a gradient by rows; other parameters are moved by ``dense``."""
    found: Touched = []
    for parameter in group["params"]:
        pieces, gradient = list(pieces_of(parameter) or ()), parameter.grad
        if gradient is not None and gradient.is_sparse:
            pieces.append(Piece(gradient._indices()[0], 0, in_rows(gradient._values())))
        elif gradient is not None:
            dense(parameter)
        if not pieces:
            continue
        if parameter.dtype != torch.float32 or not parameter.is_contiguous():
            raise TypeError(f"the fused optimizers move tables of contiguous floats, not of {parameter.dtype}")
        found.append((parameter, pieces))
    return found


def _derive(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        _order(_touched(group, lambda parameter: None))


def _order(touched: Touched) -> RowOrder:
    numbers: dict[int, int] = {}
    matrices, lists = list[Tensor](), list[tuple[tuple[int, int], ...]]()
    for _, pieces in touched:
        for piece in pieces:
            if numbers.setdefault(id(piece.rows), len(matrices)) == len(matrices):
                matrices.append(piece.rows)
        lists.append(tuple((numbers[id(piece.rows)], piece.column) for piece in pieces))
    return row_order(tuple(matrices), tuple(lists), tuple(parameter.shape[0] for parameter, _ in touched))


def _run(name: str, touched: Touched, states: list[tuple[Tensor, ...]], rates: tuple[float, ...]) -> None:
    if not touched:
        return
    found, place, first = _order(touched), 0, 0
    order, starts = found.order.data_ptr(), found.starts.data_ptr()
    of_all = described([piece for _, pieces in touched for piece in pieces])
    steps = (RowStep * len(touched))()
    for k, ((parameter, pieces), kept) in enumerate(zip(touched, states, strict=True)):
        end = first + len(pieces)
        count = sum(of_all[number].count for number in range(first, end))
        steps[k] = RowStep(
            *(first, count, parameter.shape[1], parameter.data_ptr(), kept[0].data_ptr(), kept[-1].data_ptr()),
            *(order + 4 * place, starts + 4 * (place + k), found.groups[k]),
        )
        place, first = place + count, end
    getattr(load_kernels(), name)(steps, len(touched), of_all, *rates, torch.get_num_threads())
