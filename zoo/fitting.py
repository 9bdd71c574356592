"""The plain fit loop: shuffled batches, three optimizers, early stopping on the validation AUC."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.averaging import WeightAverage
from zoo.configs import ModelConfig
from zoo.layers.features import to_tensors
from zoo.layers.mlp import FullyConnectedStack
from zoo.layers.packed_recurrence import Evolve, evolve, packed_recurrence
from zoo.losses import sample_negatives, training_loss
from zoo.metrics import auc
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.optimizers import build_optimizers, rate_schedules
from zoo.prediction import predict
from zoo.schema import Dataset, Int64, Split
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
    with _without_subnormals():
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
    set_dropout(model, training.dropout)
    loop = _Loop(model, dataset.train, training)
    stopping = EarlyStopping(model)
    judged = _labelled(dataset.valid)
    valid_auc, epoch = None, 0
    with packed_recurrence(model, recurrence):
        for epoch, samples, judge in loop.batches():
            loss = float(loop.step(samples))
            if judge:
                with loop.averaged():
                    valid_auc = auc(dataset.valid.labels[judged], predict(model, dataset.valid)[judged])
                    stopping.observe(valid_auc, loop.steps)
            if judge or loop.steps % loop.report_every == 0:
                report(Progress(epoch=epoch, step=loop.steps, steps=loop.all_steps, loss=loss, valid_auc=valid_auc))
            if stopping.stale >= training.patience:
                break
    stopping.restore()
    model.eval()
    return Fitted(
        model=model,
        valid_auc=stopping.best_auc,
        best_step=stopping.best_step,
        steps=loop.steps,
        epochs=epoch,
    )


@contextlib.contextmanager
def _without_subnormals() -> Iterator[None]:
    """Numbers below 1e-38 become 0, in the weights too: where nothing but ``embedding_l2`` moves a row, as with the
    padding's, it shrinks into the range in which a processor calculates some hundred times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def set_dropout(model: CtrModel, dropout: float) -> None:
    """Set the dropout of every stack of fully connected layers."""
    for module in model.modules():
        if isinstance(module, FullyConnectedStack):
            module.dropout = dropout


class _Loop:
    """Batches of one training split and the step that learns from one of them."""

    def __init__(self, model: CtrModel, split: Split, training: TrainingConfig) -> None:
        self._model, self._split, self._training = model, split, training
        self._samples = np.flatnonzero(_labelled(split))
        self._rng = np.random.default_rng(training.seed)
        self._optimizers = build_optimizers(model, training)
        self._average = WeightAverage(model, training.average) if training.average else None
        self._per_epoch = -(-len(self._samples) // training.batch_size)
        self.all_steps = self._per_epoch * training.max_epochs
        self.report_every = max(1, self._per_epoch // REPORTS_PER_EPOCH)
        self._schedules = rate_schedules(self._optimizers, self.all_steps, training.final_lr_share)
        self.steps = 0

    def batches(self) -> Iterator[tuple[int, Int64, bool]]:
        """(epoch, shuffled sample numbers, whether the validation AUC is due after them)."""
        size, parts = self._training.batch_size, self._training.evaluations
        due = {round(self._per_epoch * part / parts) for part in range(1, parts + 1)}
        for epoch in range(1, self._training.max_epochs + 1):
            order = self._rng.permutation(self._samples)
            for number in range(self._per_epoch):
                yield epoch, order[number * size : (number + 1) * size], number + 1 in due

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model as it is judged and kept: with averaged weights if the settings ask for them."""
        return contextlib.nullcontext() if self._average is None else self._average.applied()

    def step(self, samples: Int64) -> Tensor:
        """One update from ``samples``; returns the loss."""
        batch = self._split.training_batch(samples)
        raw = to_tensors(batch)._replace(user_of=None)
        negatives = None
        if self._model.needs_negatives:
            negatives = sample_negatives(self._split, len(batch.history), self._rng)
        self._model.train()
        loss = training_loss(self._model, raw, torch.from_numpy(self._split.labels[samples]), negatives)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()
        if self._average is not None:
            self._average.before_step()
        for optimizer in self._optimizers:
            optimizer.step()
        for schedule in self._schedules:
            schedule.step()
        self.steps += 1
        return loss.detach()


def _labelled(split: Split) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return ~np.isnan(split.labels)
