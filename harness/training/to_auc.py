"""Both sides trained to their end, once per seed, under the referee's clock; what they made is judged by the referee.

The clock runs from each order to take steps to its answer. Saving weights and scoring them is timed on no side. The
sides take turns from one evaluation to the next, so a drift of the host meets both.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from harness.clock import now_ns
from harness.console.observer import Observer
from harness.record.training_rows import Evaluation
from harness.training.course import is_over, kept_of, looks, reached
from harness.training.pacing import MOST
from harness.training.scorer import Scorer
from harness.training.seed_store import SeedStore
from harness.training.sides import TrainingSides
from harness.training.spec import TrainingPlan, training_spec
from zoo.schema import Float32

WARM_STEPS = 2
"""What a process does once (imports, builds, first allocations) is no part of a training: it takes these, and begins
again."""


@dataclass(slots=True, kw_only=True)
class ToTheEnd:
    """Trainings to their end. ``rows``: their evaluations, in the order in which they ran; ``scores``: of the test
    split, by the weights that each has kept. ``target``: looked for between the evaluations of the fit loop until it is
    found. ``store``: seeds that an ended run has finished.
    """

    what: TrainingPlan
    folder: Path
    split: Path
    sides: TrainingSides
    scorer: Scorer
    observer: Observer
    target: float
    store: SeedStore
    rows: list[Evaluation] = field(default_factory=list)
    scores: dict[tuple[str, int], Float32] = field(default_factory=dict)

    def train(self, seed: int, epoch_samples: int) -> None:
        """Train every side with one seed, or take what an ended run of the same trial has finished."""
        finished = self.store.find(seed)
        if finished is None:
            self._train(seed, epoch_samples)
            scores = {side: self.scores[side, seed] for side in self.what.plans}
            self.store.keep(seed, [row for row in self.rows if row.seed == seed], scores)
            return
        rows, scores = finished
        self.observer.stage(f"seed {seed}: finished by the run that was ended", total=None)
        self.rows += rows
        self.scores |= {(side, seed): array for side, array in scores.items()}

    def _train(self, seed: int, epoch_samples: int) -> None:
        what = self.what
        training = dataclasses.replace(what.training, seed=seed)
        per_epoch = -(-epoch_samples // training.batch_size)
        start = self.folder / f"start-{seed}.npz"
        self.scorer.begin(seed, start)
        self._start_sides(dataclasses.replace(what, training=training), start)
        all_steps, running = per_epoch * training.max_epochs, list(what.plans)
        title = f"seed {seed}, {what.seeds.index(seed) + 1} of {len(what.seeds)}: training to the end"
        self.observer.stage(title, total=len(running) * all_steps, unit="steps")
        for number, look in enumerate(looks(per_epoch, training)):
            for side in running if number % 2 == 0 else running[::-1]:
                own = self._of(side, seed)
                if look.decides or reached(own, self.target) is None:
                    self._stretch(side, seed, look.step, look.decides)
            for side in [name for name in running if is_over(self._of(name, seed), all_steps, training.patience)]:
                self._end(side, seed)
                running.remove(side)
        start.unlink()

    def _start_sides(self, what: TrainingPlan, start: Path) -> None:
        for name, plan in what.plans.items():
            self.scorer.awake.sleep()
            self.sides.start(name, training_spec(what, plan, self.split, start))
            self.scorer.awake.joined(name)
            self.sides.order(name, "train", steps=WARM_STEPS)
            self.sides.order(name, "again", changes={})

    def _stretch(self, side: str, seed: int, until: int, decides: bool) -> None:
        own = self._of(side, seed)
        first = own[-1].step if own else 0
        self.scorer.awake.wake(side)
        before_ns = self.sides.cpu_ns(side)
        started_ns = now_ns()
        samples = sum(
            self.sides.order(side, "train", steps=min(MOST, until - start)) for start in range(first, until, MOST)
        )
        ended_ns = now_ns()
        trained_ns = self.sides.cpu_ns(side)
        latest = self._latest(side)
        self.sides.order(side, "keep", path=str(latest))
        kept_ns = self.sides.cpu_ns(side)
        row = Evaluation(
            side=side,
            seed=seed,
            first_step=first,
            steps=until - first,
            samples=samples,
            started_ns=started_ns,
            ended_ns=ended_ns,
            cpu_ns=trained_ns - before_ns,
            keep_cpu_ns=kept_ns - trained_ns,
            decides=int(decides),
            valid_auc=self.scorer.valid_auc(latest),
        )
        self.rows.append(row)
        if kept_of([*own, row]).best is row:
            latest.replace(self._best(side))
        self.observer.advance(row.steps, f"{side}: validation AUC {row.valid_auc:.4f} after {until} steps")

    def _end(self, side: str, seed: int) -> None:
        """Score the test split by what the side has kept, and end its process."""
        self.scores[side, seed] = self.scorer.scores(self._best(side), "test")
        self.scorer.awake.left(side)
        self.sides.stop(side)
        for path in (self._best(side), self._latest(side)):
            path.unlink(missing_ok=True)

    def _of(self, side: str, seed: int) -> list[Evaluation]:
        return [row for row in self.rows if (row.side, row.seed) == (side, seed)]

    def _latest(self, side: str) -> Path:
        return self.folder / f"{side}-latest.npz"

    def _best(self, side: str) -> Path:
        return self.folder / f"{side}-best.npz"
