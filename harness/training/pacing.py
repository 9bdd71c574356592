"""How many steps a stretch has: the same on both sides, so that both do the same work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.options import Budget
from harness.record.training_rows import Chunk
from harness.training.bench import TrainingBench

PACE_S = 0.5
FEWEST, MOST = 2, 500
"""Steps of one order: a side that does not answer for long hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """Steps of a stretch that counts, and of the one before it that lets a thawed side settle."""

    timed: int
    settle: int


def find_pacing(bench: TrainingBench, budget: Budget, cold: Sequence[Chunk]) -> Pacing:
    """Time a short stretch on every side. The slowest one decides: a stretch lasts ``segment_s`` of the budget there.

    cold: first steps of all sides, which say how long the short stretch has to be.
    """
    steps = _steps(PACE_S, max(chunk.seconds / chunk.steps for chunk in cold), FEWEST)
    step_s = max(bench.train(side, "pace", steps).seconds / steps for side in bench.position)
    return Pacing(timed=_steps(budget.segment_s, step_s, 2 * FEWEST), settle=_steps(budget.settle_s, step_s, FEWEST))


def _steps(seconds: float, step_s: float, fewest: int) -> int:
    return min(max(math.ceil(seconds / step_s), fewest), MOST)
