"""Trains a pipeline on PyTorch: the plain step of ``zoo.learning``, and what the plan puts in its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.backends.block_lowering import BlockLowering
from harness.backends.protocol import TrainingContext
from harness.backends.torch_backend import put
from harness.backends.torch_ranks import Rank
from harness.backends.training_steps import Load, Steps, Stream
from optimizations.async_embedding.lookups import Lookups
from optimizations.contract import Plan, Training
from optimizations.lowering import LoweringContext, LoweringError
from optimizations.micro_batch.pipelines import Pipelines
from optimizations.registry import lowering_module
from optimizations.smart_stage.boundary import find_boundary
from optimizations.smart_stage.steps import DerivedAhead
from optimizations.stage.prefetch import Prefetch
from zoo.layers.augru import Augru, Gru
from zoo.layers.packed_recurrence import packed
from zoo.learning import Given, Learner, PlainSteps
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.training import load_into, weights_of
from zoo.training_batches import Draw, TrainingBatches
from zoo.training_config import TrainingConfig
from zoo.training_state import load_state, save_state

LOWERING = "torch_training"
"""Plug-ins build what trains in ``lower_torch_training.py``: builders as in ``optimizations.lowering``, whose modules
have the parameters of the reference, the same objects under the same names; and ``OPTIMIZERS``, by name: (model,
settings) -> optimizers with the mathematics of ``zoo.optimizers``."""


class TorchTraining:
    """See ``harness.backends.protocol.TrainSession``."""

    def __init__(
        self,
        learner: Learner,
        batches: TrainingBatches,
        steps: Steps,
        ahead: Prefetch[Draw, list[Given]] | None,
        stream: Stream | None = None,
        load: Load = load_state,
    ) -> None:
        self._learner, self._batches, self._steps, self._ahead, self._stream = learner, batches, steps, ahead, stream
        self._load = load
        self._held: list[list[Given]] = []
        self.report: list[dict[str, Any]] = []

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return len(self._batches)

    @property
    def threads(self) -> int:
        """Threads of the framework."""
        return torch.get_num_threads()

    def train(self, steps: int, at: int | None = None) -> int:
        """Take the next steps, or those from step ``at`` of the first epoch on; returns their samples."""
        if at is not None:
            self._batches = self._batches.at(at)
            torch.manual_seed(at)  # of dropout
        if self._ahead is not None or self._stream is not None:
            return self._learn(self._inputs(steps, self._batches))
        samples = 0
        for _ in range(steps):
            draw = self._batches.draw()
            self._steps.step(draw)
            samples += len(draw.samples)
        return samples

    def read(self, steps: int) -> int:
        """Prepare the inputs of the next steps and forget them; returns their samples."""
        return sum(_samples(given) for given in self._inputs(steps, self._batches.fork()))

    def hold(self, steps: int) -> int:
        """Prepare the inputs of the next steps for ``compute``; returns their samples."""
        self._held = list(self._inputs(steps, self._batches))
        return sum(_samples(given) for given in self._held)

    def compute(self) -> int:
        """Take the steps whose inputs are held; returns their samples."""
        held, self._held = self._held, []
        return self._learn(held)

    def checkpoint(self, path: Path) -> None:
        """Write all that a step changes."""
        save_state(path, self._learner.state_dict())

    def resume(self, path: Path) -> None:
        """Go on from what another plan's session has written so."""
        self._learner.load_state_dict(self._load(path))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Parameters and buffers by name."""
        return weights_of(self._learner.model)

    def kept(self) -> dict[str, npt.NDArray[Any]]:
        """Parameters and buffers by name as they are judged and kept."""
        with self._learner.averaged():
            return {name: np.array(array) for name, array in self.state().items()}

    def _learn(self, inputs: Iterable[list[Given]]) -> int:
        if self._stream is not None:
            return sum(map(_samples, self._stream.learn(inputs)))
        samples = 0
        for given in inputs:
            self._steps.learn(given)
            samples += _samples(given)
        return samples

    def _inputs(self, steps: int, batches: TrainingBatches) -> Iterator[list[Given]]:
        if self._ahead is None:
            return (self._steps.read(batches.draw()) for _ in range(steps))
        return self._ahead.take(steps, batches.draw, self._steps.prepare)


def lower_training(plan: Plan, context: TrainingContext) -> TorchTraining:
    """Build the plan's training, before its first step.

    Threads: ``runtime.threads`` of the plan, else those of the training's settings, else ``context.threads``; the ranks
    of a plan share them out. Such a plan is lowered in each of its ranks. Raises ValueError when weights do not fit the
    model, or when a step of the plan matches nothing.
    """
    runtime, way, training = plan.pipeline.runtime, plan.pipeline.train, context.training
    if way is None:
        raise ValueError("a plan that serves cannot be trained: its part train is missing")
    os.environ.update(runtime.environment)
    torch.set_flush_denormal(True)
    threads = max(1, (runtime.threads or training.threads or context.threads) // way.ranks)
    torch.set_num_threads(threads)
    rank = Rank(context, way.ranks) if way.ranks > 1 else None
    model = _model(context) if rank is None else rank.model
    lowering = BlockLowering(plan, _lowering_context(context, threads), LOWERING)
    for block in plan.pipeline.blocks:
        reference = model.get_submodule(block.path)
        module = lowering.build(block, reference)
        if module is None and isinstance(reference, Gru | Augru):
            module = packed(reference)
        if module is not None:
            put(model, block.path, module)
    batches = TrainingBatches(
        context.split, training.batch_size, training.seed, model.needs_negatives, context.reordering
    )
    optimizers, load = (_optimizers(plan, model, training, lowering), load_state) if rank is None else rank.optimizers()
    learner = Learner(model, training, batches.per_epoch * training.max_epochs, optimizers)
    steps: Steps = PlainSteps(batches, learner)
    if way.parts > 1:
        steps = Pipelines(batches, learner, way.parts, threads)
    if way.derived:
        steps = _derived_ahead(steps, learner, batches, lowering)
    stream: Stream | None = None
    if way.lookup_lag:
        stream = lookups = Lookups(learner, way.lookup_lag, _beside)
        lowering.tell("train.lookup_lag", lookups.report)
    if rank is not None:
        steps, stream, built = rank.steps(batches, learner)
        lowering.tell("train.ranks", built)
    session = TorchTraining(learner, batches, steps, _ahead(way), stream, load)
    torch.set_num_threads(threads)
    session.report = [step.to_json() for step in lowering.finish()]
    return session


def _optimizers(
    plan: Plan, model: CtrModel, training: TrainingConfig, lowering: BlockLowering
) -> Sequence[torch.optim.Optimizer] | None:
    """Those of the plan, from ``OPTIMIZERS`` of the plug-in that has them; None for the reference's own."""
    wanted = plan.pipeline.train.optimizer if plan.pipeline.train is not None else "reference"
    for step in plan.steps:
        builders = getattr(lowering_module(step.name, LOWERING), "OPTIMIZERS", {})
        if wanted in builders:
            try:
                found: Sequence[torch.optim.Optimizer] = builders[wanted](model, training)
                return found
            except LoweringError as error:
                lowering.excuse("train.optimizer", str(error))
    return None


def _derived_ahead(steps: Steps, learner: Learner, batches: TrainingBatches, lowering: BlockLowering) -> Steps:
    """``steps`` with all that is derived from an input alone made with it; as they are, on record, where it changes."""
    try:
        recipe, report = find_boundary(learner, batches)
    except LoweringError as error:
        lowering.excuse("train.derived", str(error))
        return steps
    lowering.tell("train.derived", report)
    return DerivedAhead(steps, recipe)


def _model(context: TrainingContext) -> CtrModel:
    """The model before the first step: as its seed makes it, or with the given weights."""
    torch.manual_seed(context.training.seed)
    model = build_model(context.config, context.schema)
    if context.start is not None:
        load_into(model, {name: np.array(array) for name, array in context.start.items()})  # mapped tables cannot learn
    return model.to(context.device)


def _lowering_context(context: TrainingContext, threads: int) -> LoweringContext:
    return LoweringContext(
        schema=context.schema,
        config=context.config,
        weights={},
        calibration=None,
        cache_dir=context.cache_dir,
        device=context.device,
        threads=threads,
    )


def _ahead(way: Training) -> Prefetch[Draw, list[Given]] | None:
    return Prefetch(way.prefetch, way.prefetch_threads, _beside) if way.prefetch else None


def _beside() -> None:
    """The settings of a thread that works beside the one that computes."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)


def _samples(given: Sequence[Given]) -> int:
    return sum(len(part.labels) for part in given)
