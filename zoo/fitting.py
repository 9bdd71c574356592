"""The plain fit loop: shuffled batches, three optimizers, early stopping on the validation AUC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.configs import ModelConfig
from zoo.layers.packed_recurrence import Evolve, evolve, packed_recurrence
from zoo.learning import Learner, PlainSteps, without_subnormals
from zoo.metrics import auc
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.prediction import predict
from zoo.schema import Dataset
from zoo.training_batches import TrainingBatches
from zoo.training_config import TrainingConfig

REPORTS_PER_EPOCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands: step ``step`` of at most ``steps``; ``valid_auc`` is the latest one, None before it."""

    epoch: int
    step: int
    steps: int
    loss: float
    valid_auc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The model at its best validation AUC, that AUC, and the step at which it was reached."""

    model: CtrModel
    valid_auc: float
    best_step: int
    steps: int
    epochs: int


class EarlyStopping:
    """Keeps the weights of the best AUC; ``stale`` counts the evaluations since."""

    def __init__(self, model: CtrModel) -> None:
        self._model = model
        self._weights: dict[str, Tensor] = {}
        self.best_auc, self.best_step, self.stale = float("-inf"), 0, 0

    def observe(self, valid_auc: float, step: int) -> None:
        """Note the AUC at ``step``; a new best copies the weights."""
        self.stale += 1
        if valid_auc > self.best_auc or not self._weights:
            self.best_auc, self.best_step, self.stale = valid_auc, step, 0
            self._weights = {name: value.clone() for name, value in self._model.state_dict().items()}

    def restore(self) -> None:
        """Put the best weights back."""
        self._model.load_state_dict(self._weights)


def fit(
    config: ModelConfig,
    dataset: Dataset,
    training: TrainingConfig,
    report: Callable[[Progress], None],
    recurrence: Evolve = evolve,
) -> Fitted:
    """Train ``config`` on ``dataset.train``; ``dataset.valid`` decides when to stop.

    The same seed gives the same weights on one thread. Samples without a label are left out. ``recurrence``: what
    recurrent layers are trained with.
    """
    with without_subnormals():
        return _fit(config, dataset, training, report, recurrence)


def _fit(
    config: ModelConfig,
    dataset: Dataset,
    training: TrainingConfig,
    report: Callable[[Progress], None],
    recurrence: Evolve,
) -> Fitted:
    if training.threads:
        torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    model = build_model(config, dataset.schema)
    batches = TrainingBatches(dataset.train, training.batch_size, training.seed, model.needs_negatives)
    per_epoch = batches.per_epoch
    all_steps, report_every = per_epoch * training.max_epochs, max(1, per_epoch // REPORTS_PER_EPOCH)
    learner = Learner(model, training, all_steps)
    steps = PlainSteps(batches, learner)
    stopping = EarlyStopping(model)
    judged = ~np.isnan(dataset.valid.labels)
    due = {round(per_epoch * part / training.evaluations) for part in range(1, training.evaluations + 1)}
    valid_auc = None
    with packed_recurrence(model, recurrence):
        while learner.steps < all_steps and stopping.stale < training.patience:
            loss = float(steps.step(batches.draw()))
            judge = (learner.steps - 1) % per_epoch + 1 in due
            if judge:
                with learner.averaged():
                    valid_auc = auc(dataset.valid.labels[judged], predict(model, dataset.valid)[judged])
                    stopping.observe(valid_auc, learner.steps)
            if judge or learner.steps % report_every == 0:
                epoch = -(-learner.steps // max(1, per_epoch))
                report(Progress(epoch=epoch, step=learner.steps, steps=all_steps, loss=loss, valid_auc=valid_auc))
    stopping.restore()
    model.eval()
    return Fitted(
        model=model,
        valid_auc=stopping.best_auc,
        best_step=stopping.best_step,
        steps=learner.steps,
        epochs=-(-learner.steps // max(1, per_epoch)),
    )
