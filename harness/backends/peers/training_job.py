"""What the trainers of all peers do alike: read their order, make matrices of the splits, tell, and write.

The spec of a trainer holds ``model`` (name and sizes), ``dataset``, ``dataset_options``, ``cache_dir`` and ``out`` (the
``.npz`` to write). Standard output gets one JSON object per line: ``{"event": "progress", epoch, epochs, valid_auc}``
after every epoch, and at last ``{"event": "done", valid_auc, epochs}``. What the package prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from harness.backends.peers.sample_matrix import SampleMatrix, longest_bags
from harness.backends.peers.trained_arrays import Arrays, trained_arrays
from zoo.checkpoint import save_weights
from zoo.configs import ModelConfig, model_config
from zoo.datasets import load_dataset
from zoo.schema import Dataset, Float32, Split

PART = 8192


@dataclass(slots=True, kw_only=True)
class TrainingJob:
    """One order. longest: values of each bag field's longest bag in the training split."""

    config: ModelConfig
    dataset: Dataset
    longest: dict[str, int]
    out: Path
    told: TextIO

    def progress(self, epoch: int, epochs: int, valid_auc: float) -> None:
        """After an epoch, the first one being 1, of ``epochs`` at most."""
        self._tell(event="progress", epoch=epoch, epochs=epochs, valid_auc=valid_auc)

    def finish(self, state: Arrays, epochs: int, valid_auc: float) -> None:
        """Write the arrays of the epoch that is kept, and its AUC."""
        save_weights(self.out, trained_arrays(state, self.longest))
        self._tell(event="done", valid_auc=valid_auc, epochs=epochs)

    def _tell(self, **values: Any) -> None:
        self.told.write(json.dumps(values) + "\n")
        self.told.flush()


@contextlib.contextmanager
def ordered(spec_path: str) -> Iterator[TrainingJob]:
    """The job of the spec, its data loaded."""
    spec: dict[str, Any] = json.loads(Path(spec_path).read_text("utf-8"))
    told = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        dataset = load_dataset(spec["dataset"], spec["dataset_options"], Path(spec["cache_dir"]))
        yield TrainingJob(
            config=model_config(spec["model"]["name"], spec["model"]),
            dataset=dataset,
            longest=longest_bags(dataset.schema, dataset.train),
            out=Path(spec["out"]),
            told=told,
        )


def samples_of(split: Split, matrix: SampleMatrix) -> tuple[Float32, Float32]:
    """(rows, labels) of all samples that have one."""
    known = np.flatnonzero(~np.isnan(split.labels))
    parts = [matrix(split.batch(known[start : start + PART])) for start in range(0, len(known), PART)]
    return np.concatenate(parts), split.labels[known]
