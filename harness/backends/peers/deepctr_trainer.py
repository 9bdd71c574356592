"""Child process that trains a model of deepctr-torch by its own ``fit``: ``python -m ... SPEC.json``.

See ``training_job`` for the spec and what is told.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.backends.peers.deepctr_models import build, callbacks, matrix_of
from harness.backends.peers.training_job import TrainingJob, ordered, samples_of

MOST_EPOCHS = 10
"""Those of its examples; it stops after the first epoch without a better AUC on the validation split."""
OPTIMIZER, LOSS, METRIC = "adam", "binary_crossentropy", "auc"


def main(spec_path: str) -> None:
    """Fit, and write the best epoch's arrays."""
    with ordered(spec_path) as job:
        model = build(job.config, job.dataset.schema, job.longest)
        matrix = matrix_of(model, job.config, job.dataset.schema, job.longest)
        (x, y), (valid_x, valid_y) = samples_of(job.dataset.train, matrix), samples_of(job.dataset.valid, matrix)
        model.compile(OPTIMIZER, LOSS, metrics=[METRIC])
        stopping = callbacks().EarlyStopping(f"val_{METRIC}", patience=1, mode="max", restore_best_weights=True)
        follower = _follower(job)
        model.fit(
            [x], y, epochs=MOST_EPOCHS, verbose=0, validation_data=([valid_x], valid_y), callbacks=[stopping, follower]
        )
        if stopping.best_weights is not None:  # it restores them only where it stopped early
            model.load_state_dict(stopping.best_weights)
        state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
        job.finish(state, follower.epochs, float(stopping.best))


def _follower(job: TrainingJob) -> Any:
    """A callback of the package that tells every epoch."""

    class Follower(callbacks().Callback):  # type: ignore[misc]
        epochs = 0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs = epoch + 1
            job.progress(self.epochs, MOST_EPOCHS, float(logs[f"val_{METRIC}"]))

    return Follower()


if __name__ == "__main__":
    main(sys.argv[1])
