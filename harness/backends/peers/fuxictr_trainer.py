"""Child process that trains a model of FuxiCTR by its own ``fit``: ``python -m ... SPEC.json``.

See ``training_job`` for the spec and what is told.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.backends.peers.fuxictr_models import METRIC, NAME, Inputs, ModelInputs, build
from harness.backends.peers.training_job import TrainingJob, ordered, samples_of
from zoo.schema import Float32

MOST_EPOCHS = 20
"""Two epochs without a better AUC on the validation split end it before, by its own default."""
BATCH_SIZE = 256
SEED = 2024


class Batches:
    """What its ``fit`` reads: batches of the samples, in another order in every epoch, or in their own."""

    def __init__(self, inputs: ModelInputs, rows: Float32, labels: Float32, shuffled: bool) -> None:
        self._inputs, self._rows, self._labels = inputs, rows, labels
        self._rng = np.random.default_rng(SEED) if shuffled else None

    def __len__(self) -> int:
        return -(-len(self._rows) // BATCH_SIZE)

    def __iter__(self) -> Iterator[Inputs]:
        order = np.arange(len(self._rows)) if self._rng is None else self._rng.permutation(len(self._rows))
        for chosen in np.array_split(order, len(self)):  # of nearly one size: a batch of one row has no statistics
            yield self._inputs(self._rows[chosen], self._labels[chosen])


def main(spec_path: str) -> None:
    """Fit, and write the best epoch's arrays."""
    with ordered(spec_path) as job, tempfile.TemporaryDirectory() as folder:
        importlib.import_module("fuxictr.pytorch.torch_utils").seed_everything(SEED)
        (Path(folder) / NAME).mkdir()
        schema, longest = job.dataset.schema, job.longest
        model, inputs = build(job.config, schema, longest, Path(folder)), ModelInputs(schema, longest)
        matrix = inputs.matrix(schema, longest)
        train = Batches(inputs, *samples_of(job.dataset.train, matrix), shuffled=True)
        valid = Batches(inputs, *samples_of(job.dataset.valid, matrix), shuffled=False)
        told = _telling(job, model)
        model.fit(train, epochs=MOST_EPOCHS, validation_data=valid)
        state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
        job.finish(state, len(told), max(told))


def _telling(job: TrainingJob, model: Any) -> list[float]:
    """Tells what its ``evaluate`` finds after each epoch; the list of it grows with the epochs."""
    found: list[float] = []
    evaluate = model.evaluate

    def evaluate_and_tell(*arguments: Any, **options: Any) -> Any:
        logs = evaluate(*arguments, **options)
        found.append(float(logs[METRIC]))
        job.progress(len(found), MOST_EPOCHS, found[-1])
        return logs

    model.evaluate = evaluate_and_tell
    return found


if __name__ == "__main__":
    main(sys.argv[1])
