"""The referee's process that scores what trainings have made. It has the features of both splits, and no label."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from harness.measurement.awake import Awake
from harness.training.sides import TrainingSides
from harness.training.spec import TrainingPlan
from zoo.metrics import auc
from zoo.schema import Float32, Split
from zoo.split_file import write_split

SCORER = "scorer"
SCORING = (sys.executable, "-m", "harness.sut.scoring_server")


class Scorer:
    """See ``harness.sut.scoring_server``. It is asleep while a side trains: ``awake`` is for who else is started."""

    def __init__(self, what: TrainingPlan, folder: Path, sides: TrainingSides, remarks: list[str]) -> None:
        self._what, self._folder, self._sides = what, folder, sides
        self.awake = Awake(sides, remarks)
        self._splits = {"valid": what.dataset.valid, "test": what.dataset.test}
        for name, split in self._splits.items():
            write_split(self._at(name), _without_labels(split))
        spec = {"model": dataclasses.asdict(what.config), "schema": what.dataset.schema.to_json(), "environment": {}}
        sides.start(SCORER, spec, SCORING)
        self.awake.joined(SCORER)

    def begin(self, seed: int, path: Path) -> None:
        """Write the weights before the first step of a seed."""
        self.awake.wake(SCORER)
        self._sides.order(SCORER, "begin", seed=seed, path=str(path))

    def scores(self, weights: Path, split: str) -> Float32:
        """Click probabilities [N] of all samples of "valid" or "test"."""
        self.awake.wake(SCORER)
        out = self._folder / "scores.npy"
        self._sides.order(SCORER, "score", weights=str(weights), split=str(self._at(split)), out=str(out))
        found: Float32 = np.load(out, allow_pickle=False)
        return found

    def valid_auc(self, weights: Path) -> float:
        """AUC on the labelled validation samples; NaN for scores that are not finite."""
        labels, scores = self._what.dataset.valid.labels, self.scores(weights, "valid")
        judged = ~np.isnan(labels)
        return auc(labels[judged], scores[judged]) if np.isfinite(scores[judged]).all() else float("nan")

    def stop(self) -> None:
        """End the process."""
        self.awake.left(SCORER)
        self._sides.stop(SCORER)

    def _at(self, split: str) -> Path:
        return self._folder / f"{split}.npz"


def _without_labels(split: Split) -> Split:
    return dataclasses.replace(split, labels=np.full_like(split.labels, np.nan), probability=None)
