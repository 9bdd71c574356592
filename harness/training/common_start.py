"""Where both sides begin each burst of steps.

Trainings of the same mathematics move apart step by step, since rounding spreads; after a thousand steps a side that
has left out some of them looks like one that has not. So nothing that counts is far from a common start: each burst
begins on both sides from one state, which the plain loop has reached, and at a place in the order of batches that
nobody knew before the clock ran. Which bursts are compared is decided when they are over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from harness.training.bench import TrainingBench
from harness.training.pacing import Pacing


class Burst(NamedTuple):
    """Burst ``number`` of a half; number 0 lets the side settle and does not count."""

    quad: int
    half: int
    number: int


class Places(NamedTuple):
    """The steps of the first epoch at which a burst settles, and at which it is timed."""

    settle: int
    timed: int


class Comparison(Protocol):
    """Who looks at where bursts end."""

    def ended(self, side: str, burst: Burst) -> None:
        """``side`` has taken the steps of ``burst``."""

    def compare(self, quad: int) -> None:
        """Both sides have ended ``quad``."""


@dataclass(slots=True, kw_only=True)
class CommonStart:
    """``state``: the file from which every burst begins. ``epoch_steps``: of the training split."""

    state: Path
    epoch_steps: int
    pacing: Pacing
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _places: dict[Burst, Places] = field(default_factory=dict)

    def train(self, bench: TrainingBench, side: str, half: tuple[int, int], comparison: Comparison | None) -> None:
        """Have ``side`` take the steps of one half: the same ones as the other side."""
        pacing = self.pacing
        for number in range(pacing.bursts + 1):
            burst = Burst(*half, number)
            places = self.places(burst)
            bench.order(side, "resume", path=str(self.state))
            bench.watch_peak(side)
            bench.train(side, "settle", pacing.settle, half, places.settle)
            bench.train(side, "quad" if number else "settle", pacing.timed, half, places.timed)
            bench.keep_peak(side)
            if comparison is not None:
                comparison.ended(side, burst)

    def places(self, burst: Burst) -> Places:
        """Drawn when they are first asked for."""
        if burst not in self._places:
            self._places[burst] = Places(self._draw(self.pacing.settle), self._draw(self.pacing.timed))
        return self._places[burst]

    def _draw(self, steps: int) -> int:
        """A place from which the epoch has so many steps left; any, where it has fewer."""
        left = self.epoch_steps - steps + 1
        return int(self.rng.integers(left if left > 0 else self.epoch_steps))
