"""Views of a tensor, its shape, and the operators that leave its numbers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optimizations.fusion import fc_layout as layout
from optimizations.fusion.fc_expressions import Expression, Value
from optimizations.fusion.fc_values import Batch
from optimizations.lowering import LoweringError


class Views:
    """One method per operator, under its name in the framework and with its parameters.

    ``rows``: the rows that the graph believes its batch to have. Every method raises LoweringError for a view in which
    rows do not stay rows.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def unchanged(self, input: Any, *_: Any, **__: Any) -> Any:
        return input

    def dropout(self, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if training:
            raise LoweringError("dropout that is switched on")
        return input

    def to(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.dtype)]
        if any(dtype not in (torch.float32, torch.float64) for dtype in wanted):
            raise LoweringError(f"a cast to {wanted[0]}")
        return input

    def transpose(self, input: Any, dim0: int, dim1: int) -> Value:
        return layout.swapped(_laid(input), dim0, dim1)

    def t(self, input: Any) -> Value:
        return layout.permuted(_laid(input), (1, 0)) if len(_laid(input).axes) == 2 else input

    def mt(self, input: Any) -> Value:
        return layout.swapped(_laid(input), -1, -2)

    def permute(self, input: Any, *dims: Any) -> Value:
        return layout.permuted(_laid(input), _flat(dims))

    def unsqueeze(self, input: Any, dim: int) -> Value:
        return layout.with_axis(_laid(input), dim)

    def squeeze(self, input: Any, dim: Any = None) -> Value:
        if not isinstance(dim, int):
            raise LoweringError("a squeeze of every axis of size 1: its shape depends on the rows")
        return layout.without_axis(_laid(input), dim)

    def flatten(self, input: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
        return layout.merged(_laid(input), start_dim, end_dim)

    def reshape(self, input: Any, *shape: Any) -> Value:
        return layout.reshaped(_laid(input), _flat(shape), self._rows)

    def reshape_as(self, input: Any, other: Any) -> Value:
        return layout.reshaped(_laid(input), self._sizes(other), self._rows)

    def size(self, input: Any, dim: int | None = None) -> Any:
        if dim is not None and _laid(input).axes[dim] == "rows":
            return self._rows
        return self._sizes(input) if dim is None else self._sizes(input)[dim]

    def dim(self, input: Any) -> int:
        return len(_laid(input).axes)

    def expand_as(self, input: Any, other: Any) -> Any:
        if isinstance(input, Value):
            raise LoweringError("the input's product spread over more rows")
        return input.expand(self._sizes(other))

    def filled(self, value: float) -> Callable[..., Tensor]:
        """``zeros_like`` and its kin: beside any tensor a number will do."""
        return lambda input, *_, **__: torch.tensor(value, dtype=torch.float64)

    def attribute(self, input: Any, name: str) -> Any:
        """``input.name``."""
        read: dict[str, Callable[[Any], Any]] = {
            "shape": self._shape,
            "ndim": self.dim,
            "T": self.t,
            "mT": self.mt,
            "dtype": lambda _: torch.float64,
            "device": lambda _: torch.device("cpu"),
        }
        if name not in read:
            raise LoweringError(f"the attribute {name!r} of a tensor")
        return read[name](input)

    def _shape(self, value: Any) -> tuple[int | None, ...]:
        try:
            return self._sizes(value)
        except LoweringError:  # only the rows may be asked for
            return tuple(self._rows if axis == "rows" else None for axis in _laid(value).axes)

    def _sizes(self, value: Any) -> tuple[int, ...]:
        return layout.sizes(_laid(value), self._rows)


def _laid(value: Any) -> layout.Laid:
    if not isinstance(value, Batch | Expression):
        raise LoweringError("a view of an exponential or of terms before their sum")
    return value


def _flat(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (list, tuple)) else values
