"""The plain step of a training: loss, gradients, optimizers, rates. What trains faster has to end where this does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.averaging import WeightAverage
from zoo.layers.derived import Source, derived_by
from zoo.layers.features import to_tensors
from zoo.layers.mlp import FullyConnectedStack
from zoo.layers.tensors import Embedded, TrainingInput
from zoo.losses import Share, training_loss
from zoo.models.ctr_model import CtrModel
from zoo.optimizers import RowOptimizer, build_optimizers, rate_schedules
from zoo.training_batches import Draw, Reading, TrainingBatches
from zoo.training_config import TrainingConfig


class Given(NamedTuple):
    """The input of a step, decided by no parameter. known: what it derives from it, as far as that is made already."""

    input: TrainingInput
    labels: Tensor
    known: Source | None = None


class Learner:
    """A model in training, its optimizers and their rates over ``all_steps`` steps.

    ``optimizers``: those of ``zoo.optimizers.build_optimizers`` unless others with the same mathematics are given.
    """

    def __init__(
        self,
        model: CtrModel,
        training: TrainingConfig,
        all_steps: int,
        optimizers: Sequence[torch.optim.Optimizer] | None = None,
    ) -> None:
        self.model, self.steps = model.train(), 0
        self._optimizers = build_optimizers(model, training) if optimizers is None else list(optimizers)
        self._schedules = rate_schedules(self._optimizers, all_steps, training.final_lr_share)
        self._average = WeightAverage(model, training.average) if training.average else None
        set_dropout(model, training.dropout)

    def engineer(self, reading: Reading) -> Given:
        """Tensors and engineered features of a batch that was read."""
        raw = to_tensors(reading.batch)._replace(user_of=None)
        negatives = None if reading.negatives is None else torch.from_numpy(reading.negatives)
        return Given(self.model.training_input(raw, negatives), torch.from_numpy(reading.labels))

    def learn(self, given: Given) -> Tensor:
        """One update; returns the loss."""
        with derived_by(given.known):
            self.begin()
            loss = gradients(self.model, given)
            self.update()
        return loss

    def begin(self) -> None:
        """Forget the gradients of the step before."""
        if not self.model.training:  # judged since; to tell every module each time takes as long as a small layer
            self.model.train()
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def derive(self) -> None:
        """Make what an update derives from the rows of its gradients alone, and move nothing."""
        for optimizer in self._optimizers:
            if isinstance(optimizer, RowOptimizer):
                optimizer.derive()

    def update(self) -> None:
        """Move the parameters by their gradients."""
        if self._average is not None:
            self._average.before_step()
        for optimizer in self._optimizers:
            optimizer.step()
        for schedule in self._schedules:
            schedule.step()
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers, the state of every optimizer, rates and averages: what a step changes."""
        return {
            "steps": self.steps,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedules": [schedule.last_epoch for schedule in self._schedules],
            "average": None if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a learner with the same model and settings; raises what PyTorch does for another."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        for schedule, step in zip(self._schedules, state["schedules"], strict=True):
            schedule.last_epoch = step  # the rates themselves are part of the optimizers
        if self._average is not None:
            self._average.load_state_dict(state["average"])

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model as it is judged and kept: with averaged weights if the settings ask for them."""
        return contextlib.nullcontext() if self._average is None else self._average.applied()


class PlainSteps:
    """Steps of ``learner`` on ``batches``, one after another: the mathematics of every other way to take them."""

    def __init__(self, batches: TrainingBatches, learner: Learner) -> None:
        self._batches, self._learner = batches, learner

    def prepare(self, draw: Draw) -> list[Given]:
        """The input of a step; any thread may do so ahead."""
        return [self._learner.engineer(self._batches.read(draw))]

    read = prepare

    def learn(self, given: Sequence[Given]) -> Tensor:
        """One update from an input that is there; returns the loss."""
        (whole,) = given
        return self._learner.learn(whole)

    def step(self, draw: Draw) -> Tensor:
        """One update, its input included; returns the loss."""
        return self.learn(self.read(draw))


def gradients(model: CtrModel, given: Given, share: Share | None = None, embedded: Embedded | None = None) -> Tensor:
    """Add the gradients of the loss to those of the parameters; returns the loss (with ``share``, this part of it).

    ``embedded``: the vectors of the input, of whoever has looked them up already.
    """
    with derived_by(given.known):
        loss = training_loss(model, given.input, given.labels, share, embedded)
        loss.backward()
    return loss.detach()


def set_dropout(model: CtrModel, dropout: float) -> None:
    """Set the dropout of every stack of fully connected layers."""
    for module in model.modules():
        if isinstance(module, FullyConnectedStack):
            module.dropout = dropout


@contextlib.contextmanager
def without_subnormals() -> Iterator[None]:
    """Numbers below 1e-38 become 0, in the weights too: where nothing but ``embedding_l2`` moves a row, as with the
    padding's, it shrinks into the range in which a processor calculates some hundred times slower. Of this thread."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
