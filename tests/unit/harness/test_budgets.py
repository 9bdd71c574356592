"""How long a budget measures."""

from __future__ import annotations

import pytest

from harness.options import BUDGETS


@pytest.mark.parametrize(
    ("name", "seconds"), [("smoke", 18.0), ("quick", 105.8), ("standard", 569.0), ("official", 690.0)]
)
def test_seconds_of_a_budget_are_those_of_its_parts(name, seconds):
    """The table of docs/measuring.md, added up; ``official`` has a certificate of 121 s besides."""
    assert BUDGETS[name].seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("name", "most"), [("smoke", 22), ("quick", 120), ("standard", 600)])
def test_budgets_keep_to_their_seconds(name, most):
    budget = BUDGETS[name]
    quads = budget.quads * 4 * (budget.segment_s + budget.settle_s)
    assert quads < budget.seconds <= most
