"""How far scores may move in the tests: what a plan declares, or less where that is for trained models."""

from __future__ import annotations

from collections.abc import Iterable

from optimizations.registry import available

SMALL = {"bf16": 4e-3}
"""Of models as small as those of the tests, with weights as they are drawn."""


def score_tolerance(names: Iterable[str]) -> float:
    """The largest of these optimizations, absolute."""
    return max(SMALL.get(name, available()[name].score_tolerance) for name in names)
