"""Seeds that a run has trained to their end, kept until its record is made: a run that is ended does not train them
again.

A file per seed in the cache, under what decides its rows: the trial, its target, the source and the kind of machine.
Both sides of a seed are always of one run.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.host.environment import hardware_class, source_sha256
from harness.record.training_rows import EVALUATION_COLUMNS, Evaluation, as_columns, as_rows
from harness.trial import Trial
from optimizations.registry import third_party_packages
from zoo.checkpoint import load_weights, save_weights
from zoo.schema import Float32

SCORES = "scores of "


class SeedStore:
    """The finished seeds of a trial. ``warn`` gets one line for a file that cannot be read: its seed is trained
    again."""

    def __init__(self, cache_dir: Path, trial: Trial, target: float, warn: Callable[[str], None]) -> None:
        source = source_sha256(plugins=third_party_packages(trial.opts))
        decides = f"{trial.trial_id} {target!r} {source} {hardware_class()}"
        self._folder = cache_dir / "seeds" / hashlib.sha256(decides.encode()).hexdigest()[:24]
        self._warn = warn

    def find(self, seed: int) -> tuple[list[Evaluation], dict[str, Float32]] | None:
        """Evaluations of all sides, and by side the scores of the test split; None where the seed is yet to train."""
        path = self._at(seed)
        if not path.is_file():
            return None
        try:
            return _read(path)
        except (ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            self._warn(f"{path} cannot be read as a finished seed ({error}): it is trained again")
            return None

    def keep(self, seed: int, rows: Sequence[Evaluation], scores: Mapping[str, Float32]) -> None:
        """A seed is finished."""
        columns = as_columns(rows, (), EVALUATION_COLUMNS)
        columns["side"] = np.array([list(scores).index(row.side) for row in rows], np.int64)
        save_weights(self._at(seed), {**columns, **{SCORES + side: array for side, array in scores.items()}})

    def remove(self) -> None:
        """The trial has its result: what is trained next is measured next."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _at(self, seed: int) -> Path:
        return self._folder / f"seed-{seed}.npz"


def _read(path: Path) -> tuple[list[Evaluation], dict[str, Float32]]:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} has another checksum")
    arrays = load_weights(path)
    scores = {name.removeprefix(SCORES): array for name, array in arrays.items() if name.startswith(SCORES)}
    columns = {name: arrays[name] for name in EVALUATION_COLUMNS}
    columns["side"] = np.array(list(scores), str)[arrays["side"]]
    return as_rows(Evaluation, columns), scores
