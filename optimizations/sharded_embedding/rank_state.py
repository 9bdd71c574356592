"""A rank's part of the state of a plain training: its rows of parameters, of optimizers' sums, of averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optimizations.sharded_embedding.row_plan import own_rows


class RankState:
    """Cuts states of plain learners (``zoo.learning.Learner.state_dict``) for the learner of ``model``, which has these
    ``optimizers``. rows: of every table in all, by the name of its parameter."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        rows: Mapping[str, int],
        rank: int,
        ranks: int,
    ) -> None:
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._optimizers, self._rows, self._rank, self._ranks = optimizers, rows, rank, ranks

    def load(self, path: Path) -> dict[str, Any]:
        """This rank's part of the state in ``path``. The file is mapped: no table is in memory as a whole."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return self.own(state)

    def own(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """This rank's part of ``state``, on memory of its own."""
        average = state["average"]
        if average is not None:
            kept = zip(self._names.values(), average["kept"], strict=True)
            average = {**average, "kept": [self._cut(name, each) for name, each in kept]}
        optimizers = zip(self._optimizers, state["optimizers"], strict=True)
        return {
            **state,
            "model": {name: self._cut(name, {"": value})[""] for name, value in state["model"].items()},
            "optimizers": [self._of_optimizer(own, kept) for own, kept in optimizers],
            "average": average,
        }

    def _of_optimizer(self, own: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
        names = [self._names[id(parameter)] for group in own.param_groups for parameter in group["params"]]
        return {**state, "state": {number: self._cut(names[number], each) for number, each in state["state"].items()}}

    def _cut(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of what belongs to the parameter ``name``; everything of one that is no table."""
        rows = self._rows.get(name)
        own = None if rows is None else own_rows(rows, self._rank, self._ranks)
        return {
            key: (value if own is None else _rows_of(value, own)).clone() if isinstance(value, Tensor) else value
            for key, value in values.items()
        }


def _rows_of(value: Tensor, own: range) -> Tensor:
    """Of a rank without a row, one that nobody asks for."""
    return value[own.start : own.stop] if own else value[:1]
