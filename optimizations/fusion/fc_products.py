"""The linear part: every way in which a graph may multiply its input by a matrix of constants."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from optimizations.fusion.fc_expressions import Expression
from optimizations.fusion.fc_values import SINGLE, Axes, Batch, Product, Terms, Z
from optimizations.lowering import LoweringError


class Products:
    """The products of one graph; two of the same numbers are one."""

    def __init__(self) -> None:
        self._known: list[Product] = []

    def of(self, batch: Batch, weight: Tensor, axes: Axes, bias: Tensor | None = None) -> Expression:
        """batch W^T + bias along ``axes``: weight [outputs, inputs], bias [outputs]."""
        outputs, inputs = weight.shape
        if "columns" not in axes and "one" in axes:  # of one output: any axis of size 1 is its column
            at = axes.index("one")
            axes = (*axes[:at], "columns", *axes[at + 1 :])
        if not weight.is_floating_point():
            raise LoweringError("a weight of integers")
        if any(part.numel() not in (1, inputs) for part in (batch.scale, batch.shift)):
            raise LoweringError(f"a weight of {inputs} inputs on another number of columns")
        weight = weight.double()
        start = torch.zeros(outputs, dtype=torch.float64) if bias is None else bias.double()
        if bool((batch.shift != 0).any()):
            start = start + weight @ batch.shift.expand(inputs)
        product = self._once(Product(weight * batch.scale, start))
        return Expression(axes, product, {Z: torch.ones_like(start)})

    def linear(self, batch: Any, weight: Any, bias: Any) -> Expression:
        """``F.linear``."""
        if not isinstance(batch, Batch) or not _constant(weight) or weight.ndim != 2 or batch.axes[-1] != "columns":
            raise _no_product(batch)
        if bias is not None and not _constant(bias):
            raise LoweringError("a bias that depends on the input")
        folded = None if bias is None else bias.reshape(-1).expand(len(weight))
        return self.of(batch, weight, batch.axes, folded)

    def matmul(self, left: Any, right: Any) -> Expression:
        """``left @ right`` of the batch and a matrix or vector of constants, in either order."""
        if isinstance(left, Batch) and _constant(right):
            return self._times_constant(left, right)
        if isinstance(right, Batch) and _constant(left):
            return self._constant_times(left, right)
        raise _no_product(left if _constant(right) else right)

    def _times_constant(self, batch: Batch, constant: Tensor) -> Expression:
        if batch.axes[-1] != "columns":
            raise LoweringError("a product over the rows of the batch")
        if constant.ndim == 1:
            return self.of(batch, constant.unsqueeze(0), batch.axes[:-1])
        missing = max(constant.ndim - len(batch.axes), 0)
        return self.of(batch, _matrix(constant).T, SINGLE * missing + batch.axes)

    def _constant_times(self, constant: Tensor, batch: Batch) -> Expression:
        if len(batch.axes) < 2 or batch.axes[-2] != "columns":
            raise LoweringError("a product over the rows of the batch")
        if constant.ndim == 1:
            return self.of(batch, constant.unsqueeze(0), (*batch.axes[:-2], batch.axes[-1]))
        missing = max(constant.ndim - len(batch.axes), 0)
        return self.of(batch, _matrix(constant), SINGLE * missing + batch.axes)

    def einsum(self, equation: str, *operands: Any) -> Expression:
        """``torch.einsum`` of the batch and one matrix or vector of constants, its result written out."""
        inputs, arrow, result = equation.replace(" ", "").replace("...", "*").partition("->")
        labels = inputs.split(",")
        if len(operands) == 2 and isinstance(operands[1], Batch):
            operands, labels = operands[::-1], labels[::-1]
        batch, constant = operands if len(operands) == 2 else (None, None)
        if not isinstance(batch, Batch) or not isinstance(constant, Tensor) or not arrow:
            raise LoweringError(f"einsum {equation!r} is not the batch times a constant")
        if len(batch.axes) != 2 or any(len(set(each)) != len(each) for each in labels):
            raise LoweringError(f"einsum {equation!r}")
        names = dict(zip(batch.axes, labels[0], strict=True))
        (rows, columns), own = (names["rows"], names["columns"]), labels[1]
        outputs = own.replace(columns, "")
        if columns not in own or rows in own or len(outputs) > 1 or columns in result:
            raise LoweringError(f"einsum {equation!r} is no product over the columns of the batch")
        if sorted(result) != sorted(rows + outputs):
            raise LoweringError(f"einsum {equation!r} sums over rows or outputs")
        weight = constant if own.index(columns) == constant.ndim - 1 else constant.T
        axes: Axes = tuple("rows" if name == rows else "columns" for name in result)
        return self.of(batch, weight.reshape(-1, weight.shape[-1]), axes)

    def sum(self, value: Batch | Terms, dim: int, keepdim: bool) -> Expression:
        """The sum over the columns of terms, or of a batch that constants have multiplied."""
        at = dim % len(value.axes)
        if value.axes[at] != "columns":
            raise LoweringError("a sum over something else than the columns of the input")
        axes = value.axes[:at] + SINGLE * keepdim + value.axes[at + 1 :]
        if isinstance(value, Terms):
            named: Axes = tuple("columns" if axis == "outputs" else axis for axis in axes)
            return self.of(value.batch, value.weight, named)
        if value.scale.numel() < 2:
            raise LoweringError("a sum of columns that nothing has multiplied")
        ones = torch.ones(1, value.scale.numel(), dtype=torch.float64)
        return self.of(value, ones, axes)

    def _once(self, product: Product) -> Product:
        for known in self._known:
            if torch.equal(known.weight, product.weight) and torch.equal(known.bias, product.bias):
                return known
        self._known.append(product)
        return product


def terms(batch: Batch, constant: Tensor) -> Terms:
    """x [.., 1, .., inputs] * constant [outputs, inputs], the terms of a product that waits for its sum."""
    while constant.ndim > 2 and constant.shape[0] == 1:
        constant = constant.squeeze(0)
    if constant.ndim != 2 or batch.axes not in (("rows", "one", "columns"), ("rows", "columns", "one")):
        raise LoweringError(f"the input times a constant of shape {tuple(constant.shape)}")
    axes: Axes = tuple("outputs" if axis == "one" else axis for axis in batch.axes)
    return Terms(axes, dataclasses.replace(batch), constant if axes[-1] == "columns" else constant.T)


def _matrix(constant: Tensor) -> Tensor:
    if any(size != 1 for size in constant.shape[:-2]):
        raise LoweringError(f"a batch of matrices {tuple(constant.shape)}")
    return constant.reshape(constant.shape[-2:])


def _constant(value: Any) -> bool:
    return isinstance(value, Tensor)


def _no_product(value: Any) -> LoweringError:
    if isinstance(value, Expression):
        return LoweringError("a product of a product: one kernel does one")
    return LoweringError("a product that is not the input's with a matrix of constants")
