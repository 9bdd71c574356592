"""What the operators of products, arithmetic and activations make of the values of ``fc_expressions``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optimizations.fusion import fc_layout as layout
from optimizations.fusion.fc_expressions import Exponential, Expression, Value
from optimizations.fusion.fc_products import Products, terms
from optimizations.fusion.fc_values import Batch, Terms
from optimizations.fusion.fc_views import Views
from optimizations.lowering import LoweringError


class Operators(Views):
    """One method per operator, under its name in the framework and with its parameters.

    ``rows``: the rows that the graph believes its batch to have. Every method raises LoweringError where the result
    has no form in ``fc_expressions``.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self._products = Products()

    # Products

    def linear(self, input: Any, weight: Any, bias: Any = None) -> Value:
        return self._products.linear(input, weight, bias)

    def matmul(self, input: Any, other: Any) -> Value:
        return self._products.matmul(input, other)

    def addmm(self, input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Value:
        total: Value = self.add(self.mul(self._products.matmul(mat1, mat2), alpha), self.mul(input, beta))
        return total

    def einsum(self, equation: str, *operands: Any) -> Value:
        flat = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
        return self._products.einsum(equation, *flat)

    def sum(self, input: Any, dim: Any = None, keepdim: bool = False) -> Value:
        dims = dim if isinstance(dim, (list, tuple)) else (dim,)
        if not isinstance(input, (Batch, Terms)) or len(dims) != 1 or not isinstance(dims[0], int):
            raise LoweringError("a sum over something else than the columns of the input")
        return self._products.sum(input, dims[0], keepdim)

    # Arithmetic

    def add(self, input: Any, other: Any, *, alpha: float = 1) -> Any:
        if alpha != 1:
            other = self.mul(other, alpha)
        if not isinstance(input, Value):
            input, other = other, input
        if not isinstance(input, Value):
            return input + other
        if isinstance(input, Expression) and isinstance(other, Expression):
            return input.plus(other)
        if isinstance(other, Value):
            raise LoweringError("a sum of the input, or of an exponential, with something that depends on the input")
        return self._mapped(input, 1.0, other)

    def sub(self, input: Any, other: Any, *, alpha: float = 1) -> Any:
        return self.add(input, self.mul(other, -alpha))

    def rsub(self, input: Any, other: Any, *, alpha: float = 1) -> Any:
        return self.sub(other, input, alpha=alpha)

    def neg(self, input: Any) -> Any:
        return self.mul(input, -1.0)

    def mul(self, input: Any, other: Any) -> Any:
        if not isinstance(input, Value):
            input, other = other, input
        if not isinstance(input, Value):
            return input * other
        if isinstance(input, Expression) and isinstance(other, Expression):
            return input.times(other)
        if isinstance(other, Value):
            raise LoweringError("the input, or an exponential, times something that depends on the input")
        if isinstance(input, Batch) and self._many_rows(input, other):
            return terms(input, other)
        return self._mapped(input, other, 0.0)

    def div(self, input: Any, other: Any) -> Value:
        if isinstance(other, Exponential):
            if isinstance(input, Exponential):
                return input.over(other)
            quotient: Value = self.mul(input, other.reciprocal())
            return quotient
        if isinstance(other, Value):
            raise LoweringError("a division by what depends on the input and is no exponential")
        return self._divided(input, other)

    def reciprocal(self, input: Any) -> Value:
        return self.div(1.0, input)

    def pow(self, input: Any, exponent: Any) -> Value:
        if exponent == -1:
            return self.div(1.0, input)
        raise LoweringError(f"a power of {exponent}")

    def exp(self, input: Any) -> Value:
        expression = _expression(input)
        if not expression.affine:
            raise LoweringError("an exponential of something that has been activated")
        zero = torch.zeros_like(expression.product.bias)
        return Exponential(expression, zero, zero + 1)

    # Activations

    def relu(self, input: Any, inplace: bool = False) -> Value:
        expression = _expression(input)
        return expression.times(expression.step())

    def clamp(self, input: Any, min: Any = None, max: Any = None) -> Any:
        if min is not None:
            input = self.maximum(input, min)
        return input if max is None else self.minimum(input, max)

    def hardtanh(self, input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
        return self.clamp(input, min_val, max_val)

    def clamp_min(self, input: Any, min: Any) -> Any:
        return self.maximum(input, min)

    def clamp_max(self, input: Any, max: Any) -> Any:
        return self.minimum(input, max)

    def maximum(self, input: Any, other: Any) -> Any:
        return self.add(other, self.relu(self.sub(input, other)))

    def minimum(self, input: Any, other: Any) -> Any:
        return self.sub(input, self.relu(self.sub(input, other)))

    def max(self, input: Any, other: Any) -> Any:
        return self.maximum(input, _tensor(other))

    def min(self, input: Any, other: Any) -> Any:
        return self.minimum(input, _tensor(other))

    def abs(self, input: Any) -> Any:
        expression = _expression(input)
        return self.sub(self.mul(2.0, self.relu(expression)), expression)

    def leaky_relu(self, input: Any, negative_slope: Any = 0.01, inplace: bool = False) -> Any:
        return self._with_slope(_expression(input), negative_slope)

    def prelu(self, input: Any, weight: Any) -> Any:
        return self._with_slope(_expression(input), weight)

    def sigmoid(self, input: Any) -> Value:
        return _expression(input).sigmoid()

    def tanh(self, input: Any) -> Any:
        return self.sub(self.mul(2.0, self.sigmoid(self.mul(2.0, input))), 1.0)

    def silu(self, input: Any, inplace: bool = False) -> Any:
        return self.mul(input, self.sigmoid(input))

    def batch_norm(
        self,
        input: Any,
        running_mean: Any,
        running_var: Any,
        weight: Any = None,
        bias: Any = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Any:
        if training or running_mean is None or running_var is None:
            raise LoweringError("a batch norm by the statistics of the batch")
        if not isinstance(input, Batch | Expression) or input.axes != ("rows", "columns"):
            raise LoweringError("a batch norm of something else than columns")
        scale = torch.rsqrt(running_var.double() + eps)
        shift = -running_mean.double() * scale
        if weight is not None:
            scale, shift = scale * weight, shift * weight
        return self._mapped(input, scale, shift if bias is None else shift + bias)

    # Conditions

    def gt(self, input: Any, other: Any) -> Value:
        return _expression(self.sub(input, other)).step()

    def lt(self, input: Any, other: Any) -> Value:
        return self.gt(other, input)

    def logical_not(self, input: Any) -> Value:
        return _condition(input).complement()

    def where(self, condition: Any, input: Any, other: Any) -> Any:
        chosen = _condition(condition)
        return self.add(self.mul(chosen, input), self.mul(chosen.complement(), other))

    def masked_fill(self, input: Any, mask: Any, value: Any) -> Any:
        return self.where(mask, value, input)

    def _mapped(self, value: Value, scale: Any, shift: Any) -> Value:
        if isinstance(value, Terms):
            raise LoweringError("the terms of a product are changed before their sum")
        if isinstance(value, Batch):
            scale, shift = (layout.per_column(each, value.axes, self._rows) for each in (scale, shift))
            return Batch(value.axes, value.scale * scale, value.shift * scale + shift)
        inner = value if isinstance(value, Expression) else value.exponent
        return value.map(*(layout.for_outputs(each, inner, self._rows) for each in (scale, shift)))

    def _divided(self, value: Any, constant: Any) -> Value:
        divisor = layout.as_double(constant)
        if bool((divisor == 0).any()):
            raise LoweringError("a division by 0")
        quotient: Value = self.mul(value, 1.0 / divisor)
        return quotient

    def _with_slope(self, expression: Expression, slope: Any) -> Any:
        step = expression.step()
        return self.where(step, expression, self.mul(expression, slope))

    def _many_rows(self, batch: Batch, constant: Any) -> bool:
        """Whether a constant spreads the batch to the terms of a product."""
        if not isinstance(constant, Tensor) or "one" not in batch.axes or constant.ndim < 2:
            return False
        dim = batch.axes.index("one") - len(batch.axes)
        return constant.ndim >= -dim and constant.shape[dim] > 1


def _expression(value: Any) -> Expression:
    if not isinstance(value, Expression):
        raise LoweringError("this is applied to something else than a product of the input")
    return value


def _condition(value: Any) -> Expression:
    if not isinstance(value, Expression) or not value.condition:
        raise LoweringError("a condition that is no comparison of the product")
    return value


def _tensor(value: Any) -> Any:
    if isinstance(value, int):
        raise LoweringError("a maximum or minimum along an axis")
    return value
