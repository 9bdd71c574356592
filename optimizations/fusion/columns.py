"""Columns that a model joins, slices, pools and multiplies between its blocks, as descriptions in place of tensors.

A model's own ``logit`` runs on them once; what it does with them is what the program does with every batch. Whatever it
does that has no description here raises ``LoweringError``, and the model stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from optimizations.lowering import LoweringError


class UserOf:
    """The row of each sample's user."""


class Lengths:
    """Real steps of every history; at least 1 in a mean, as a column to divide by."""

    def clamp(self, min: int) -> Lengths:
        """The only bound that a mean needs."""
        if min != 1:
            raise LoweringError(f"lengths clamped at {min}")
        return self

    def unsqueeze(self, dim: int) -> Lengths:
        """As a column."""
        return self


@dataclass(frozen=True, slots=True)
class Span:
    """Columns [first, first + width) of a register, read per sample of a user if ``of_user``."""

    source: int
    first: int
    width: int
    of_user: bool = False

    def cut(self, first: int, width: int) -> Span:
        """Some of its columns."""
        return dataclasses.replace(self, first=self.first + first, width=width)


@dataclass(frozen=True, slots=True)
class Term:
    """A span, divided by the length of its user's history (``mean``), or times another one (``factor``)."""

    span: Span
    mean: bool = False
    factor: Span | None = None

    def cut(self, first: int, width: int) -> Term:
        """Some of its columns."""
        factor = None if self.factor is None else self.factor.cut(first, width)
        return Term(self.span.cut(first, width), self.mean, factor)


class ColumnSymbol:
    """[rows, columns]: terms side by side; ``per_user``: one row per user, else per sample."""

    def __init__(self, terms: Sequence[Term], per_user: bool) -> None:
        self.terms, self.per_user = tuple(term for term in terms if term.span.width), per_user

    @property
    def width(self) -> int:
        """Columns."""
        return sum(term.span.width for term in self.terms)

    def index_select(self, dim: int, index: object) -> ColumnSymbol:
        """Rows of the users as rows of the samples."""
        if dim != 0 or not isinstance(index, UserOf):
            raise LoweringError("rows chosen by something else than the sample's user")
        return ColumnSymbol([_of_user(term) for term in self.terms], per_user=False)

    def __getitem__(self, key: object) -> ColumnSymbol:
        """``x[:, first:end]``."""
        if not (isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and isinstance(key[1], slice)):
            raise LoweringError(f"columns indexed by {key}")
        first, end, _ = key[1].indices(self.width)
        return ColumnSymbol(_slice(self.terms, first, end), self.per_user)

    def __mul__(self, other: object) -> ColumnSymbol:
        """Column by column."""
        if not isinstance(other, ColumnSymbol) or other.width != self.width:
            raise LoweringError("a product of unequal columns")
        pairs = _aligned(self.terms, other.terms)
        if any(term.mean or term.factor for pair in pairs for term in pair):
            raise LoweringError("a product of three")
        return ColumnSymbol([Term(a.span, factor=b.span) for a, b in pairs], self.per_user and other.per_user)

    def __truediv__(self, other: object) -> ColumnSymbol:
        """Sums over a history to means."""
        if not isinstance(other, Lengths) or any(term.mean or term.factor for term in self.terms):
            raise LoweringError("a division by something else than the length of the history")
        return ColumnSymbol([dataclasses.replace(term, mean=True) for term in self.terms], self.per_user)

    def unflatten(self, dim: int, sizes: tuple[int, int]) -> VectorSymbol:
        """[rows, vectors, width]."""
        return VectorSymbol(self, sizes[1])

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> ColumnSymbol:
        """``torch.cat`` along the columns."""
        if function is not torch.cat or (args[1:] or (0,))[0] != 1:
            raise LoweringError(f"{getattr(function, '__name__', function)} between two blocks")
        parts = args[0]
        if not all(isinstance(part, ColumnSymbol) for part in parts):
            raise LoweringError("columns joined with something else")
        return ColumnSymbol([term for part in parts for term in part.terms], all(part.per_user for part in parts))


@dataclass(frozen=True, slots=True)
class VectorSymbol:
    """Columns as vectors of one width."""

    columns: ColumnSymbol
    width: int


@dataclass(frozen=True, slots=True)
class SequenceSymbol:
    """A register [users, steps, width]."""

    register: int
    width: int


@dataclass(frozen=True, slots=True)
class ScoresSymbol:
    """A register [samples, steps]."""

    register: int


@dataclass(frozen=True, slots=True)
class LogitSymbol:
    """The sum of some registers [samples, 1]."""

    registers: tuple[int, ...]

    def squeeze(self, dim: int) -> LogitSymbol:
        """A column as a vector."""
        return self

    def __add__(self, other: object) -> LogitSymbol:
        """Logits add up."""
        if not isinstance(other, LogitSymbol):
            raise LoweringError("a logit plus something else")
        return LogitSymbol((*self.registers, *other.registers))


def _of_user(term: Term) -> Term:
    factor = None if term.factor is None else dataclasses.replace(term.factor, of_user=True)
    return Term(dataclasses.replace(term.span, of_user=True), term.mean, factor)


def _slice(terms: Sequence[Term], first: int, end: int) -> list[Term]:
    found, at = [], 0
    for term in terms:
        low, high = max(first - at, 0), min(end - at, term.span.width)
        if low < high:
            found.append(term.cut(low, high - low))
        at += term.span.width
    return found


def _aligned(a: Sequence[Term], b: Sequence[Term]) -> list[tuple[Term, Term]]:
    """Both cut where either one is, in pairs of equal width."""
    ends: set[int] = set()
    for terms in (a, b):
        at = 0
        for term in terms:
            at += term.span.width
            ends.add(at)
    found, first = [], 0
    for end in sorted(ends):
        (left,), (right,) = _slice(a, first, end), _slice(b, first, end)
        found.append((left, right))
        first = end
    return found
