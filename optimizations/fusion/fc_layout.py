"""Where rows and columns of a tensor lie, and what views of it and constants beside it come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optimizations.fusion.fc_expressions import Expression
from optimizations.fusion.fc_values import Axes, Axis, Batch
from optimizations.lowering import LoweringError

Laid = Batch | Expression
FIRST_AXES: Axes = ("rows", "columns")
"""Those of a layer's input, and of its output."""


def width(value: Laid) -> int | None:
    """Its columns; None where nothing has told them yet."""
    if isinstance(value, Expression):
        return value.product.outputs
    known = max(value.scale.numel(), value.shift.numel())
    return known if known > 1 else None


def sizes(value: Laid, rows: int) -> tuple[int, ...]:
    """Its shape with ``rows`` rows. Raises LoweringError where its columns are not known."""
    columns = width(value)
    if columns is None and "columns" in value.axes:
        raise LoweringError("the shape of the input is read before a product says its columns")
    return tuple({"rows": rows, "columns": columns or 1}.get(axis, 1) for axis in value.axes)


def as_double(constant: Any) -> Tensor:
    """A number or tensor in double precision; a number of Python's is one already."""
    return constant.double() if isinstance(constant, Tensor) else torch.tensor(constant, dtype=torch.float64)


def per_column(constant: Any, axes: Axes, rows: int) -> Tensor:
    """A constant beside a tensor that lies along ``axes``, as [columns] or [1] in double precision.

    ``rows``: the rows that the graph believes its batch to have; a constant may repeat itself in all of them. Raises
    LoweringError for one that differs from row to row.
    """
    c = as_double(constant)
    if c.ndim > len(axes):
        raise LoweringError(f"a constant of shape {tuple(c.shape)} beside a tensor of {len(axes)} dimensions")
    if not bool(torch.isfinite(c).all()):
        raise LoweringError("a constant that is not finite")
    c = c.reshape((1,) * (len(axes) - c.ndim) + tuple(c.shape))
    for dim, axis in enumerate(axes):
        first = c.narrow(dim, 0, 1)
        if axis == "rows" and c.shape[dim] == rows and bool((c == first).all()):
            c = first
        elif axis != "columns" and c.shape[dim] != 1:
            raise LoweringError(f"a constant of shape {tuple(c.shape)} that differs by row")
    return c.flatten()


def for_outputs(constant: Any, value: Expression, rows: int) -> Tensor:
    """``per_column`` as [outputs]."""
    c, outputs = per_column(constant, value.axes, rows), value.product.outputs
    if c.numel() not in (1, outputs):
        raise LoweringError(f"a constant of {c.numel()} columns beside {outputs} outputs")
    return c.expand(outputs)


def permuted(value: Laid, dims: Sequence[int]) -> Laid:
    """``value.permute(dims)``."""
    return dataclasses.replace(value, axes=tuple(value.axes[dim] for dim in dims))


def swapped(value: Laid, first: int, second: int) -> Laid:
    """``value.transpose(first, second)``."""
    dims = list(range(len(value.axes)))
    dims[first], dims[second] = dims[second], dims[first]
    return permuted(value, dims)


def with_axis(value: Laid, dim: int) -> Laid:
    """``value.unsqueeze(dim)``; of a vector of one output per row the new axis is that output."""
    axes, at = list(value.axes), dim if dim >= 0 else dim + len(value.axes) + 1
    axes.insert(at, "one" if "columns" in axes else "columns")
    return dataclasses.replace(value, axes=tuple(axes))


def without_axis(value: Laid, dim: int) -> Laid:
    """``value.squeeze(dim)``; an axis that is longer than 1 stays."""
    axes = list(value.axes)
    if axes[dim] == "rows":
        raise LoweringError("a squeezed batch: its shape would depend on its rows")
    if axes[dim] == "one" or (isinstance(value, Expression) and value.product.outputs == 1):
        del axes[dim]
    return dataclasses.replace(value, axes=tuple(axes))


def merged(value: Laid, first: int, last: int) -> Laid:
    """``value.flatten(first, last)``."""
    axes = list(value.axes)
    first, last = first % len(axes), last % len(axes)
    inside: list[Axis] = [axis for axis in axes[first : last + 1] if axis != "one"]
    if inside == ["rows", "columns"] and width(value) == 1:
        inside = ["rows"]
    if len(inside) > 1:
        raise LoweringError("rows and columns flattened into one")
    axes[first : last + 1] = inside or ["one"]
    return dataclasses.replace(value, axes=tuple(axes))


def reshaped(value: Laid, shape: Sequence[int], rows: int) -> Laid:
    """``value.reshape(shape)``, if rows stay rows and columns stay columns."""
    columns, axes = width(value), list[Axis]()
    core = [axis for axis in value.axes if axis != "one"]
    if columns == 1 and len(shape) < len(core):
        core.remove("columns")
    for at, size in enumerate(shape):
        if size == 1 and len(shape) - at > len(core):
            axes.append("one")
            continue
        if not core:
            raise LoweringError(f"a view as {tuple(shape)}")
        axis = core.pop(0)
        fits = size == -1 or (size == rows if axis == "rows" else columns in (None, size))
        if not fits:
            raise LoweringError(f"a view as {tuple(shape)}: rows do not stay rows")
        axes.append(axis)
    if core:
        raise LoweringError(f"a view as {tuple(shape)}: rows and columns in one")
    return dataclasses.replace(value, axes=tuple(axes))
