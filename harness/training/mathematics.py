"""Whether a plan trains with the baseline's mathematics, which decides by which gate it is judged. Needs no data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from harness.errors import ConfigurationError
from harness.trial import FEWEST_SEEDS


class Declared(Protocol):
    """What a step of a plan says of itself: before there are data, before it is lowered, and in a record."""

    @property
    def name(self) -> str:
        """Of the optimization."""

    @property
    def division(self) -> str:
        """closed or open."""

    @property
    def claims(self) -> tuple[str, ...]:
        """Slots that it wrote."""


def other_mathematics(steps: Iterable[Declared], dropout: float) -> str:
    """Why a plan's parameters cannot be compared with the baseline's; "" where they can."""
    for step in steps:
        if step.division == "open":
            return f"{step.name!r} trains with other mathematics than the baseline"
        if dropout > 0 and not {"train.parts", "train.ranks"}.isdisjoint(step.claims):
            return f"{step.name!r} with training.dropout={dropout:g}: each part draws its own"
    return ""


def require_seeds(by_seeds: str, train_seeds: int) -> None:
    """``by_seeds``: as ``other_mathematics`` says it. Raises ConfigurationError where the gate would need trainings of
    seeds, and too few were asked for."""
    if by_seeds and train_seeds < FEWEST_SEEDS:
        raise ConfigurationError(
            f"opt: {by_seeds}, so that parameters cannot be compared, and the AUC of several seeds is the gate: say "
            f"training.seeds=5 (at least {FEWEST_SEEDS}), or leave it out"
        )
