"""How far apart both sides end the bursts that begin from a common start: one burst of each half, which chance decides
when it is over."""

from __future__ import annotations

from pathlib import Path

from harness.estimate.parity import TensorParity
from harness.measurement.preparation import BASELINE
from harness.training.common_start import Burst, CommonStart
from harness.training.gate import REORDERINGS, parity_rows
from harness.training.run import ORIGIN, TrainingRun
from harness.training.spec import training_spec

MEASURE = (0, 0)
"""The quad and half over one burst of which the plain loop is trained in other orders."""


class BurstParity:
    """Compares bursts of ``run``, each of which begins as ``start`` says. ``rows``: what was found."""

    def __init__(self, run: TrainingRun, start: CommonStart) -> None:
        self._run, self._start = run, start
        self._compared: dict[tuple[int, int], int] = {}
        self.rows: list[TensorParity] = []

    def ended(self, side: str, burst: Burst) -> None:
        """``side`` has taken the steps of ``burst``."""
        half = (burst.quad, burst.half)
        number = self._compared.setdefault(half, int(self._start.rng.integers(self._start.pacing.bursts + 1)))
        if number == burst.number:
            self._run.bench.save(side, self._saved(side, half), half)

    def compare(self, quad: int) -> None:
        """Both sides have ended ``quad``."""
        for half in ((quad, 0), (quad, 1)):
            files = {side: self._saved(side, half) for side in self._run.what.plans}
            self._compare("timed", half, *files.values())
            for side, path in files.items():
                if (side, half) != (BASELINE, MEASURE):
                    path.unlink()

    def reorder(self) -> None:
        """Train the plain loop over one compared burst with the samples of each batch in other orders: what all others
        are held against."""
        run, sides, pacing = self._run, self._run.bench.sides, self._start.pacing
        places = self._start.places(Burst(*MEASURE, self._compared[MEASURE]))
        baseline, other = self._saved(BASELINE, MEASURE), self._saved(ORIGIN, MEASURE)
        run.bench.awake.sleep()
        sides.start(ORIGIN, training_spec(run.what, run.what.plans[BASELINE], run.split, run.start))
        for order in range(REORDERINGS):
            sides.order(ORIGIN, "again", changes={"reordering": order})
            sides.order(ORIGIN, "resume", path=str(self._start.state))
            sides.order(ORIGIN, "train", steps=pacing.settle, at=places.settle)
            sides.order(ORIGIN, "train", steps=pacing.timed, at=places.timed)
            sides.order(ORIGIN, "save", path=str(other))
            self._compare("reordered", MEASURE, baseline, other)
        sides.stop(ORIGIN)
        for path in (baseline, other):
            path.unlink()

    def _compare(self, stage: str, half: tuple[int, int], baseline: Path, other: Path) -> None:
        begun, steps = self._run.at(ORIGIN, "state"), self._start.pacing.steps
        self.rows += parity_rows(stage, steps, begun, baseline, other, quad=half[0])

    def _saved(self, side: str, half: tuple[int, int]) -> Path:
        return self._run.at(side, "quad-{}-{}".format(*half))
