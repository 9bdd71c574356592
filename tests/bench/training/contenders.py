"""Trainings beside the plain loop: ours by a plan, the plain loop with dense gradients, and those of other packages.

All learn from the same samples in the same order, with their inputs in memory: hashing and bucketing are in no time.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from harness.backends.peers import deepctr_models, fuxictr_models
from harness.backends.peers.sample_matrix import SampleMatrix, longest_bags
from harness.backends.protocol import TrainingContext
from harness.backends.torch_training import lower_training
from harness.host.environment import capabilities
from optimizations.plan import first_pipeline, resolve
from zoo.configs import ModelConfig
from zoo.learning import Given, Learner
from zoo.models import build_model
from zoo.prediction import predict
from zoo.schema import Dataset, Float32, Int64, Split
from zoo.training import load_into
from zoo.training_batches import Draw, TrainingBatches
from zoo.training_config import TrainingConfig

PART = 4096


class Contender(Protocol):
    """A training that stands at some step."""

    def hold(self, draws: list[Draw]) -> None:
        """Prepare the inputs of steps."""

    def step(self) -> None:
        """Take the steps that are held."""

    def scores(self, split: Split) -> Float32:
        """Click probabilities [N] of all samples of a split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What all of them learn."""

    dataset: Dataset
    config: ModelConfig
    training: TrainingConfig
    threads: int

    def batches(self) -> TrainingBatches:
        """In the order in which all see them."""
        wanted = build_model(self.config, self.dataset.schema).needs_negatives
        return TrainingBatches(self.dataset.train, self.training.batch_size, self.training.seed, wanted)


class Ours:
    """A plan; it draws the batches of the seed by itself, in the same order."""

    def __init__(self, workload: Workload, opts: Iterable[str]) -> None:
        self._workload = workload
        pipeline = first_pipeline(workload.config, workload.dataset.schema, "torch", "cpu", "train")
        context = TrainingContext(
            schema=workload.dataset.schema,
            config=workload.config,
            training=workload.training,
            split=workload.dataset.train,
            start=None,
            cache_dir=Path(tempfile.gettempdir()),
            device="cpu",
            threads=workload.threads,
        )
        self._session = lower_training(resolve(pipeline, {name: {} for name in opts}, capabilities()), context)

    def hold(self, draws: list[Draw]) -> None:
        """See ``Contender``."""
        self._session.hold(len(draws))

    def step(self) -> None:
        """See ``Contender``."""
        self._session.compute()

    def scores(self, split: Split) -> Float32:
        """See ``Contender``."""
        model = build_model(self._workload.config, self._workload.dataset.schema)
        load_into(model, self._session.state())
        return predict(model, split)


class DenseAdam:
    """The plain loop with gradients of whole tables and one Adam over all parameters, as CTR libraries train."""

    def __init__(self, workload: Workload) -> None:
        torch.manual_seed(workload.training.seed)
        self._model = build_model(workload.config, workload.dataset.schema)
        for module in self._model.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = False
        adam = torch.optim.Adam(self._model.parameters(), lr=workload.training.dense_lr)
        self._batches = workload.batches()
        steps = self._batches.per_epoch * workload.training.max_epochs
        self._learner = Learner(self._model, workload.training, steps, [adam])
        self._held: list[Given] = []

    def hold(self, draws: list[Draw]) -> None:
        """See ``Contender``."""
        self._held = [self._learner.engineer(self._batches.read(draw)) for draw in draws]

    def step(self) -> None:
        """See ``Contender``."""
        for given in self._held:
            self._learner.learn(given)

    def scores(self, split: Split) -> Float32:
        """See ``Contender``."""
        return predict(self._model, split)


class Deepctr:
    """A step as deepctr-torch's ``fit`` takes it."""

    def __init__(self, workload: Workload) -> None:
        schema, longest = workload.dataset.schema, longest_bags(workload.dataset.schema, workload.dataset.train)
        self._split = workload.dataset.train
        self._model = deepctr_models.build(workload.config, schema, longest)
        self._matrix = deepctr_models.matrix_of(self._model, workload.config, schema, longest)
        self._model.compile("adam", "binary_crossentropy", metrics=["auc"])
        self._model.train()
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def hold(self, draws: list[Draw]) -> None:
        """See ``Contender``."""
        self._held = [tuple(map(torch.from_numpy, rows_of(self._split, self._matrix, d.samples))) for d in draws]  # type: ignore[misc]

    def step(self) -> None:
        """See ``Contender``."""
        for rows, labels in self._held:
            scores = self._model(rows).squeeze()
            self._model.optim.zero_grad()
            loss = F.binary_cross_entropy(scores, labels, reduction="sum")
            (loss + self._model.get_regularization_loss() + self._model.aux_loss).backward()
            self._model.optim.step()

    def scores(self, split: Split) -> Float32:
        """See ``Contender``."""
        self._model.eval()

        def part(rows: Float32, labels: Float32) -> Float32:
            found: Float32 = self._model(torch.from_numpy(rows)).squeeze(1).numpy()
            return found

        return in_parts(split, self._matrix, part)


class Fuxictr:
    """A step as FuxiCTR's ``fit`` takes it."""

    def __init__(self, workload: Workload) -> None:
        schema, longest = workload.dataset.schema, longest_bags(workload.dataset.schema, workload.dataset.train)
        self._split, self._inputs = workload.dataset.train, fuxictr_models.ModelInputs(schema, longest)
        self._folder = tempfile.TemporaryDirectory()
        (Path(self._folder.name) / fuxictr_models.NAME).mkdir()
        self._model = fuxictr_models.build(workload.config, schema, longest, Path(self._folder.name))
        self._model._max_gradient_norm = 10.0  # the default of its ``fit``
        self._matrix = self._inputs.matrix(schema, longest)
        self._model.train()
        self._held: list[Any] = []

    def hold(self, draws: list[Draw]) -> None:
        """See ``Contender``."""
        self._held = [self._inputs(*rows_of(self._split, self._matrix, draw.samples)) for draw in draws]

    def step(self) -> None:
        """See ``Contender``."""
        for given in self._held:
            self._model.train_step(given)

    def scores(self, split: Split) -> Float32:
        """See ``Contender``."""
        self._model.eval()

        def part(rows: Float32, labels: Float32) -> Float32:
            found: Float32 = self._model(self._inputs(rows, labels))["y_pred"].squeeze(1).numpy()
            return found

        return in_parts(split, self._matrix, part)


def rows_of(split: Split, matrix: SampleMatrix, samples: Int64) -> tuple[Float32, Float32]:
    """Their rows and labels of some samples."""
    return matrix(split.training_batch(samples)), split.labels[samples]


def in_parts(split: Split, matrix: SampleMatrix, score: Callable[[Float32, Float32], Float32]) -> Float32:
    """Scores of a whole split, some thousand samples at a time."""
    numbers = np.arange(len(split.labels))
    with torch.inference_mode():
        return np.concatenate(
            [score(*rows_of(split, matrix, numbers[k : k + PART])) for k in range(0, len(numbers), PART)]
        )


CONTENDERS: dict[str, Callable[[Workload], Contender]] = {
    "plain": lambda workload: Ours(workload, ()),
    "fusion": lambda workload: Ours(workload, ("fusion",)),
    "dense_adam": DenseAdam,
    "deepctr_torch": Deepctr,
    "fuxictr": Fuxictr,
}
PACKAGES = {"deepctr_torch": "deepctr_torch", "fuxictr": "fuxictr"}


def missing_package(name: str) -> str:
    """The package that a contender needs and that is not installed; "" for none."""
    package = PACKAGES.get(name, "")
    return package if package and importlib.util.find_spec(package) is None else ""
