"""What a node of a layer's graph may be: the batch, or a polynomial in one product of it and in gates of that product.

A graph's nodes are all brought to this one form, so that whatever is equal by algebra is equal here: 1 / (1 + exp(-z)),
(tanh(z / 2) + 1) / 2 and sigmoid(z) are the same gate, relu(z), z * (z > 0) and max(z, 0) the same monomial.
All numbers are in double precision: weights of 24 bits come out as they went in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizations.fusion.fc_values import ONE, ROUNDING, Axes, Batch, Monomial, Product, Terms, Z
from optimizations.lowering import LoweringError


@dataclass(frozen=True, eq=False)
class Expression:
    """sum of coefficient [outputs] * monomial over ``terms``. ``condition``: it is 0 or 1 everywhere."""

    axes: Axes
    product: Product
    terms: Mapping[Monomial, Tensor]
    condition: bool = False

    @property
    def affine(self) -> bool:
        """Whether it is scale * z + shift."""
        return all(monomial in (ONE, Z) for monomial in self.terms)

    @property
    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Of an affine one, both [outputs]."""
        zeros = torch.zeros_like(self.product.bias)
        return self.terms.get(Z, zeros), self.terms.get(ONE, zeros)

    def map(self, scale: Tensor, shift: Tensor) -> Expression:
        """self * scale + shift, both [outputs]."""
        terms = {monomial: coefficient * scale for monomial, coefficient in self.terms.items()}
        terms[ONE] = terms.get(ONE, torch.zeros_like(self.product.bias)) + shift
        return self._with(terms)

    def negated(self) -> Expression:
        """-self."""
        return self._with({monomial: -coefficient for monomial, coefficient in self.terms.items()})

    def plus(self, other: Expression) -> Expression:
        """self + other. Raises LoweringError where they are of two products and not both affine."""
        same_axes(self, other)
        if self.affine and other.affine and not _same_weight(self, other):
            return self._sum_of_products(other)
        left, right = in_one_product(self, other)
        terms = dict(left.terms)
        for monomial, coefficient in right.terms.items():
            terms[monomial] = terms[monomial] + coefficient if monomial in terms else coefficient
        return left._with(terms)

    def times(self, other: Expression) -> Expression:
        """self * other. Raises LoweringError where they are of two products."""
        same_axes(self, other)
        left, right = in_one_product(self, other)
        terms: dict[Monomial, Tensor] = {}
        for a, factor in left.terms.items():
            for b, other_factor in right.terms.items():
                key, value = a.times(b), factor * other_factor
                terms[key] = terms[key] + value if key in terms else value
        return left._with(terms)

    def step(self) -> Expression:
        """1 where self > 0, else 0; at 0 itself either will do, for what is recognised in the end is continuous."""
        scale, shift = self._affine("compared")
        if (scale == 0).any():
            raise LoweringError("a condition that does not depend on the product")
        number = self.product.threshold(-shift / scale + 0.0)
        below, rising = (scale < 0).double(), scale.sign()
        terms = {ONE: below, Monomial(steps=frozenset({number})): rising}
        return Expression(self.axes, self.product, _nonzero(terms), condition=True)

    def complement(self) -> Expression:
        """1 - self."""
        one = torch.ones_like(self.product.bias)
        return Expression(self.axes, self.product, self.map(-one, one).terms, self.condition)

    def sigmoid(self) -> Expression:
        """1 / (1 + e^-self)."""
        scale, shift = self._affine("gated")
        sign = torch.where(scale < 0, -1.0, 1.0).double()  # sigmoid(-y) = 1 - sigmoid(y): one gate for both
        number = self.product.gate(scale * sign, shift * sign)
        return self._with({ONE: (1 - sign) / 2, Monomial(gates=(number,)): sign})

    def _affine(self, what: str) -> tuple[Tensor, Tensor]:
        if not self.affine:
            raise LoweringError(f"something that has been activated is {what} once more")
        return self.scale_and_shift

    def _sum_of_products(self, other: Expression) -> Expression:
        weight, bias = torch.zeros_like(self.product.weight), torch.zeros_like(self.product.bias)
        if other.product.weight.shape != weight.shape:
            raise LoweringError("a sum of products of different shapes")
        for each in (self, other):
            scale, shift = each.scale_and_shift
            weight = weight + scale.unsqueeze(1) * each.product.weight
            bias = bias + scale * each.product.bias + shift
        return Expression(self.axes, Product(weight, bias), {Z: torch.ones_like(bias)})

    def _with(self, terms: Mapping[Monomial, Tensor]) -> Expression:
        return Expression(self.axes, self.product, _nonzero(terms))


@dataclass(frozen=True, eq=False)
class Exponential:
    """constant + factor * e^exponent, both [outputs], the exponent affine."""

    exponent: Expression
    constant: Tensor
    factor: Tensor

    def map(self, scale: Tensor, shift: Tensor) -> Exponential:
        """self * scale + shift, both [outputs]."""
        return Exponential(self.exponent, self.constant * scale + shift, self.factor * scale)

    def reciprocal(self) -> Expression:
        """1 / self, a gate. Raises LoweringError where the denominator has a zero, or is no sum."""
        ratio = self.factor / self.constant
        if not (torch.isfinite(ratio) & (ratio > 0)).all():
            raise LoweringError("a reciprocal of an exponential that is no sigmoid")
        one = torch.ones_like(ratio)
        return self.exponent.map(-one, -ratio.log()).sigmoid().map(1 / self.constant, 0 * one)

    def over(self, other: Exponential) -> Expression:
        """self / other: a + b e^y = (b / d) (c + d e^y) + (a - b c / d)."""
        difference = self.exponent.plus(other.exponent.negated())
        if any(coefficient.abs().max() > ROUNDING for coefficient in difference.terms.values()):
            raise LoweringError("a quotient of two different exponentials")
        share = self.factor / other.factor
        return other.reciprocal().map(self.constant - share * other.constant, share)


Value = Batch | Terms | Expression | Exponential


def in_one_product(left: Expression, right: Expression) -> tuple[Expression, Expression]:
    """Both as polynomials of one product. Raises LoweringError where their weights differ."""
    if left.product is right.product:
        return left, right
    if not _same_weight(left, right):
        raise LoweringError("two different products of the input in one activation")
    if right.affine:
        return left, _rebased(right, left.product)
    if left.affine:
        return _rebased(left, right.product), right
    if torch.equal(left.product.bias, right.product.bias):
        return left, Expression(right.axes, left.product, _renumbered(right, left.product))
    raise LoweringError("two different products of the input in one activation")


def same_axes(left: Expression, right: Expression) -> None:
    """Raises LoweringError for rows beside columns."""
    if left.axes != right.axes:
        raise LoweringError(f"two tensors that lie differently: {left.axes} and {right.axes}")


def _same_weight(left: Expression, right: Expression) -> bool:
    return left.product is right.product or torch.equal(left.product.weight, right.product.weight)


def _rebased(expression: Expression, product: Product) -> Expression:
    """An affine expression of x W^T + b in x W^T + b'."""
    scale, shift = expression.scale_and_shift
    moved = shift + scale * (expression.product.bias - product.bias)
    return Expression(expression.axes, product, _nonzero({Z: scale, ONE: moved}))


def _renumbered(expression: Expression, product: Product) -> Mapping[Monomial, Tensor]:
    own, terms = expression.product, {}
    for monomial, coefficient in expression.terms.items():
        steps = frozenset(product.threshold(own.thresholds[number]) for number in monomial.steps)
        gates = tuple(sorted(product.gate(*own.gates[number]) for number in monomial.gates))
        terms[Monomial(monomial.power, steps, gates)] = coefficient
    return terms


def _nonzero(terms: Mapping[Monomial, Tensor]) -> Mapping[Monomial, Tensor]:
    return {monomial: coefficient for monomial, coefficient in terms.items() if bool((coefficient != 0).any())}
