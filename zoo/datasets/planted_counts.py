"""How much of a planted data set to generate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedCounts:
    """Users and candidates of each split, rows of each hashed embedding table, longest history."""

    train_users: int
    train_candidates: int
    valid_users: int
    valid_candidates: int
    test_users: int
    test_candidates: int
    table_rows: int
    max_history: int

    def users(self, part: str) -> int:
        """Users of the split named ``part``."""
        return int(getattr(self, f"{part}_users"))

    def candidates(self, part: str) -> int:
        """Candidates of each user of the split named ``part``."""
        return int(getattr(self, f"{part}_candidates"))
