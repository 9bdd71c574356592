"""How far apart both sides end the bursts that begin from a common start: one burst of each half, which chance decides
when it is over."""

from __future__ import annotations

from pathlib import Path

from harness.estimate.parity import TensorParity
from harness.measurement.preparation import BASELINE
from harness.training.common_start import Burst, CommonStart
from harness.training.gate import REORDERINGS, bursts_apart, most_are_close, parity_rows
from harness.training.run import ORIGIN, TrainingRun
from harness.training.spec import training_spec

Half = tuple[int, int]


class BurstParity:
    """Compares bursts of ``run``, each of which begins as ``start`` says. ``rows``: what was found."""

    def __init__(self, run: TrainingRun, start: CommonStart) -> None:
        self._run, self._start = run, start
        self._compared: dict[Half, int] = {}
        self.rows: list[TensorParity] = []

    def ended(self, side: str, burst: Burst) -> None:
        """``side`` has taken the steps of ``burst``."""
        half = (burst.quad, burst.half)
        number = self._compared.setdefault(half, int(self._start.rng.integers(self._start.pacing.bursts + 1)))
        if number == burst.number:
            self._run.bench.save(side, self._saved(side, half), half)

    def compare(self, quad: int) -> None:
        """Both sides have ended ``quad``. The baseline's end of a burst is kept where other orders may have to be."""
        for half in ((quad, 0), (quad, 1)):
            files = {side: self._saved(side, half) for side in self._run.what.plans}
            self._compare("timed", half, *files.values())
            apart = half in bursts_apart([*self._run.parity, *self.rows])
            for side, path in files.items():
                if not (apart and side == BASELINE):
                    path.unlink()

    def reorder(self) -> None:
        """Train the plain loop with the samples of each batch in other orders over compared bursts in which the sides
        moved apart, one after another, until most bursts are explained, or none is left."""
        run, sides = self._run, self._run.bench.sides
        left = bursts_apart([*run.parity, *self.rows])
        if not left or most_are_close([*run.parity, *self.rows]):
            return
        run.bench.observer.stage("the plain loop in other orders, burst by burst", total=len(left), unit="")
        run.bench.awake.sleep()
        sides.start(ORIGIN, training_spec(run.what, run.what.plans[BASELINE], run.split, run.start))
        while left and not most_are_close([*run.parity, *self.rows]):
            self._reorder(left.pop(0))
            run.bench.observer.advance(1.0)
        sides.stop(ORIGIN)

    def _reorder(self, half: Half) -> None:
        order, pacing = self._run.bench.sides.order, self._start.pacing
        places = self._start.places(Burst(*half, self._compared[half]))
        other = self._saved(ORIGIN, half)
        for number in range(REORDERINGS):
            order(ORIGIN, "again", changes={"reordering": number})
            order(ORIGIN, "resume", path=str(self._start.state))
            order(ORIGIN, "train", steps=pacing.settle, at=places.settle)
            order(ORIGIN, "train", steps=pacing.timed, at=places.timed)
            order(ORIGIN, "save", path=str(other))
            self._compare("reordered", half, self._saved(BASELINE, half), other)
        other.unlink()

    def _compare(self, stage: str, half: Half, baseline: Path, other: Path) -> None:
        begun, steps = self._run.at(ORIGIN, "state"), self._start.pacing.steps
        self.rows += parity_rows(stage, steps, begun, baseline, other, burst=half)

    def _saved(self, side: str, half: Half) -> Path:
        return self._run.at(side, "quad-{}-{}".format(*half))
