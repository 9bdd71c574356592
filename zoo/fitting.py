"""The plain fit loop: shuffled batches, three optimizers, early stopping on the validation AUC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.configs import ModelConfig
from zoo.learning import Learner, PlainSteps, without_subnormals
from zoo.metrics import auc
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.prediction import predict
from zoo.schema import Dataset
from zoo.stand_ins import Substitute, packed_recurrences, standing_in
from zoo.training_batches import TrainingBatches, evaluation_steps
from zoo.training_config import TrainingConfig
from zoo.training_state import StateFile, steps_between

REPORTS_PER_EPOCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands: step ``step`` of at most ``steps``; ``valid_auc`` is the latest one, None before it.

    resumed: this is where a training goes on that was ended earlier; ``loss`` is the one it had then.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    valid_auc: float | None
    resumed: bool = False


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

    def state_dict(self) -> dict[str, Any]:
        """What has been observed."""
        names = ("best_auc", "best_step", "stale")
        return {"weights": self._weights, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was observed of the same model."""
        self._weights = state["weights"]
        self.best_auc, self.best_step, self.stale = state["best_auc"], state["best_step"], state["stale"]

    def restore(self) -> None:
        """Put the best weights back."""
        self._model.load_state_dict(self._weights)


class Fitting:
    """A training under way: all that its steps change, before the first one."""

    def __init__(self, config: ModelConfig, dataset: Dataset, training: TrainingConfig, substitute: Substitute) -> None:
        torch.manual_seed(training.seed)
        self.model = build_model(config, dataset.schema)
        self.batches = TrainingBatches(dataset.train, training.batch_size, training.seed, self.model.needs_negatives)
        self.all_steps = self.batches.per_epoch * training.max_epochs
        stand_ins = substitute(self.model, config, dataset.schema)
        self.layers = stand_ins.layers
        with standing_in(self.model, self.layers):
            optimizers = stand_ins.optimizers(self.model, training)
            self.learner = Learner(self.model, training, self.all_steps, optimizers)
        self.stopping = EarlyStopping(self.model)
        self.loss = float("nan")
        self.valid_auc: float | None = None

    @property
    def state_bytes(self) -> int:
        """About how large ``state_dict`` is: weights, the best ones, and two sums of the optimizers."""
        return 4 * sum(value.nbytes for value in self.model.state_dict().values())

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the training goes on."""
        return {
            "batches": self.batches.state_dict(),
            "learner": self.learner.state_dict(),
            "stopping": self.stopping.state_dict(),
            "loss": self.loss,
            "valid_auc": self.valid_auc,
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a training with the same model, data and settings. Whatever it raises, this training
        has then lost its place."""
        self.batches.load_state_dict(state["batches"])
        self.learner.load_state_dict(state["learner"])
        self.stopping.load_state_dict(state["stopping"])
        self.loss, self.valid_auc = state["loss"], state["valid_auc"]
        torch.set_rng_state(state["random"])

    def progress(self, resumed: bool = False) -> Progress:
        """Where it stands."""
        return Progress(
            epoch=-(-self.learner.steps // max(1, self.batches.per_epoch)),
            step=self.learner.steps,
            steps=self.all_steps,
            loss=self.loss,
            valid_auc=self.valid_auc,
            resumed=resumed,
        )


def fit(
    config: ModelConfig,
    dataset: Dataset,
    training: TrainingConfig,
    report: Callable[[Progress], None],
    substitute: Substitute = packed_recurrences,
    kept: StateFile | None = None,
) -> Fitted:
    """Train ``config`` on ``dataset.train``; ``dataset.valid`` decides when to stop.

    The same seed gives the same weights on one thread. Samples without a label are left out. ``substitute``: what
    trains in the place of the model's layers and optimizers. ``kept``: where the state is kept, and gone on from if one
    is there; the weights are then the same as without.
    """
    with without_subnormals():
        if training.threads:
            torch.set_num_threads(training.threads)
        fitting = _begin(config, dataset, training, substitute, kept)
        if fitting.learner.steps:
            report(fitting.progress(resumed=True))
        with standing_in(fitting.model, fitting.layers):
            _train(fitting, dataset, training, report, kept)
    fitting.stopping.restore()
    fitting.model.eval()
    return Fitted(
        model=fitting.model,
        valid_auc=fitting.stopping.best_auc,
        best_step=fitting.stopping.best_step,
        steps=fitting.learner.steps,
        epochs=fitting.progress().epoch,
    )


def _begin(
    config: ModelConfig, dataset: Dataset, training: TrainingConfig, substitute: Substitute, kept: StateFile | None
) -> Fitting:
    """Before the first step, or where the training was ended."""
    fitting = Fitting(config, dataset, training, substitute)
    state = None if kept is None else kept.load()
    if kept is None or state is None:
        return fitting
    try:
        fitting.load_state_dict(state)
    except Exception as error:  # PyTorch raises half a dozen types for a state of something else
        kept.refuse(f"{kept.path} is not the state of this training ({type(error).__name__})")
        return Fitting(config, dataset, training, substitute)
    return fitting


def _train(
    fitting: Fitting,
    dataset: Dataset,
    training: TrainingConfig,
    report: Callable[[Progress], None],
    kept: StateFile | None,
) -> None:
    learner, stopping, batches = fitting.learner, fitting.stopping, fitting.batches
    steps, per_epoch = PlainSteps(batches, learner), batches.per_epoch
    report_every = max(1, per_epoch // REPORTS_PER_EPOCH)
    keep_every = (kept.every or steps_between(fitting.state_bytes)) if kept is not None else 0
    judged = ~np.isnan(dataset.valid.labels)
    due = evaluation_steps(per_epoch, training.evaluations)
    while learner.steps < fitting.all_steps and stopping.stale < training.patience:
        fitting.loss = float(steps.step(batches.draw()))
        judge = (learner.steps - 1) % per_epoch + 1 in due
        if judge:
            with learner.averaged():
                valid_auc = auc(dataset.valid.labels[judged], predict(fitting.model, dataset.valid)[judged])
                fitting.valid_auc = valid_auc
                stopping.observe(valid_auc, learner.steps)
        if judge or learner.steps % report_every == 0:
            report(fitting.progress())
        if kept is not None and learner.steps % keep_every == 0:
            kept.keep(fitting.state_dict())
