"""Descriptions of columns mean what the same operations do to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizations.fusion.columns import ColumnSymbol, Lengths, LogitSymbol, Span, Term, UserOf
from optimizations.lowering import LoweringError

RNG = np.random.default_rng(3)
USER_OF = torch.tensor([0, 0, 1, 2, 2])
LENGTHS = torch.tensor([0, 3, 1])
WIDTHS = (3, 2, 4)
REGISTERS = [torch.from_numpy(RNG.normal(size=(3 if r < 2 else 5, w))) for r, w in enumerate(WIDTHS)]
"""Two of users, one of samples."""


def symbol(register: int) -> ColumnSymbol:
    return ColumnSymbol([Term(Span(register, 0, WIDTHS[register]))], per_user=register < 2)


def values(columns: ColumnSymbol) -> torch.Tensor:
    """What a program would gather."""

    def read(span: Span) -> torch.Tensor:
        rows = REGISTERS[span.source][:, span.first : span.first + span.width]
        return rows[USER_OF] if span.of_user else rows

    def term(of: Term) -> torch.Tensor:
        x = read(of.span)
        if of.mean:
            lengths = LENGTHS.clamp(min=1).unsqueeze(-1)
            x = x / (lengths[USER_OF] if of.span.of_user else lengths)
        return x if of.factor is None else x * read(of.factor)

    return torch.cat([term(each) for each in columns.terms], 1)


def model(user: Any, pooled: Any, item: Any, lengths: Any, user_of: Any, cuts: tuple[int, int, int]) -> Any:
    """The operations that the models use: pooling, slicing, joining, products of differently cut columns."""
    low, high, end = cuts
    mean = pooled / lengths.clamp(min=1).unsqueeze(-1)
    both = torch.cat((user, mean), 1).index_select(0, user_of)
    target = torch.cat((item[:, low:high], user.index_select(0, user_of)), 1)[:, : min(end, 3)]
    product = target * torch.cat((pooled.index_select(0, user_of), item), 1)[:, : min(end, 3)]
    return torch.cat((both, product, item), 1)


@settings(max_examples=50)
@given(st.integers(0, 2), st.integers(3, 4), st.integers(1, 5))
def test_what_a_model_does_to_columns_is_what_a_program_gathers(low: int, high: int, end: int) -> None:
    described = model(symbol(0), symbol(1), symbol(2), Lengths(), UserOf(), (low, high, end))
    expected = model(*REGISTERS, LENGTHS, USER_OF, (low, high, end))
    assert not described.per_user
    torch.testing.assert_close(values(described), expected, rtol=0, atol=0)


def test_what_has_no_description_is_refused() -> None:
    x, y = symbol(0), symbol(1)
    other = ColumnSymbol(x.terms, per_user=True)
    for attempt in (
        lambda: torch.relu(x),  # type: ignore[arg-type]
        lambda: torch.cat((x, y), 0),  # type: ignore[arg-type]
        lambda: torch.cat((x, torch.zeros(3, 1)), 1),  # type: ignore[arg-type]
        lambda: x * y,
        lambda: x * other * other,
        lambda: x / 2.0,
        lambda: x[1:],
        lambda: x.index_select(0, torch.tensor([0])),
        lambda: Lengths().clamp(min=2),
        lambda: LogitSymbol((1,)) + x,
    ):
        with pytest.raises(LoweringError):
            attempt()
