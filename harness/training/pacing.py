"""How many steps are timed at one go, and how often: the same on both sides, so that both do the same work."""

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
SETTLE, TIMED = 2, 10
"""Steps of a burst. Together so few that rounding has not spread where they end: over 10 steps another order of the
samples moves DLRM's weights by a millionth of their movement, over 40 by 4 %, over 100 by 19 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """A burst from a common start: ``settle`` steps, then ``timed`` ones that count. ``bursts``: of a half, after one
    that lets a thawed side settle."""

    bursts: int
    settle: int = SETTLE
    timed: int = TIMED

    @property
    def steps(self) -> int:
        """From the common start to the end of a burst."""
        return self.settle + self.timed

    @property
    def half(self) -> int:
        """Steps of a half that count."""
        return self.bursts * self.timed


def find_pacing(bench: TrainingBench, budget: Budget, cold: Sequence[Chunk]) -> Pacing:
    """Time a short stretch on every side. The slowest one decides: a half lasts ``segment_s`` of the budget there.

    cold: first steps of all sides, which say how long the short stretch has to be.
    """
    steps = _steps(PACE_S, max(chunk.seconds / chunk.steps for chunk in cold))
    step_s = max(bench.train(side, "pace", steps).seconds / steps for side in bench.position)
    return Pacing(bursts=max(1, round(budget.segment_s / (TIMED * step_s))))


def _steps(seconds: float, step_s: float) -> int:
    return min(max(math.ceil(seconds / step_s), FEWEST), MOST)
