"""What a backend gives the system under test: a session that predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.configs import ModelConfig
from zoo.schema import Batch, Schema, Split
from zoo.training_config import TrainingConfig

__all__ = [
    "Backend",
    "Bind",
    "LoweringContext",
    "Predict",
    "Score",
    "Session",
    "TrainBackend",
    "TrainSession",
    "TrainingContext",
]

Predict = Callable[[Batch], npt.NDArray[np.float32]]
"""Click probabilities [N] of a batch."""

Score = Callable[[int], int]
"""Scores the payload of that many bytes where it lies, into the place for its scores; returns N. Negative: there are no
scores, and ``predict`` of the decoded payload says why."""

Bind = Callable[[memoryview, memoryview], Score]
"""What scores the payloads that will lie at the start of the first memory, as float32 into the second one."""


class Session(Protocol):
    """A lowered model. Several threads may call it at one time.

    ``predict(batch)`` is ``compute(look_up(batch))``; the two steps are there so that a server may overlap them.
    """

    @property
    def report(self) -> list[dict[str, Any]]:
        """Per plan step: name, matched (block paths or slots), fallbacks ([{path, reason}]), build_s, and where it has
        more to say, built: JSON values, among them a "summary" of one sentence."""

    @property
    def bind(self) -> Bind | None:
        """How payloads are scored without a ``Batch``; None: this session cannot."""

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Click probabilities [N] in [0, 1]."""

    def look_up(self, batch: Batch) -> Any:
        """The blocks of the roles features and embedding. Any thread may go on with what it returns."""

    def compute(self, found: Any) -> npt.NDArray[np.float32]:
        """All other blocks: click probabilities [N] from what ``look_up`` returned."""

    def close(self) -> None:
        """Release what the session holds; it predicts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """Everything but the plan that the lowering of a training may look at.

    split: what is trained on. start: the weights before the first step, None for those that the seed of ``training``
    gives. reordering: of each batch's samples (``zoo.training_batches``). threads: of the framework where neither the
    plan nor ``training`` says, at least 1.
    """

    schema: Schema
    config: ModelConfig
    training: TrainingConfig
    split: Split
    start: Mapping[str, npt.NDArray[Any]] | None
    cache_dir: Path
    device: str
    threads: int
    reordering: int | None = None


class TrainSession(Protocol):
    """A training that stands at some step; one thread calls it. Its batches are those of its seed, in their order.

    Counts that are returned are of samples.
    """

    @property
    def report(self) -> list[dict[str, Any]]:
        """Per plan step, as that of ``Session``."""

    @property
    def samples(self) -> int:
        """Samples of an epoch."""

    @property
    def threads(self) -> int:
        """Threads of the framework."""

    def train(self, steps: int, at: int | None = None) -> int:
        """Take the next steps, or those from step ``at`` of the first epoch on. Nothing of later ones is begun."""

    def read(self, steps: int) -> int:
        """Prepare the inputs of the next steps, as the plan does, and forget them."""

    def hold(self, steps: int) -> int:
        """Prepare the inputs of the next steps for ``compute``."""

    def compute(self) -> int:
        """Take the steps whose inputs are held."""

    def checkpoint(self, path: Path) -> None:
        """Write all that a step changes: parameters, buffers, the state of every optimizer, rates, averages."""

    def resume(self, path: Path) -> None:
        """Go on from what another plan's session of this backend has written so. The batches stay as they are."""

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Parameters and buffers by the names of the PyTorch reference."""

    def kept(self) -> Mapping[str, npt.NDArray[Any]]:
        """The same as they are judged and kept: averages, where the settings ask for them."""


class TrainBackend(Protocol):
    """A module ``harness.backends.<name>_training``."""

    def lower_training(self, plan: Plan, context: TrainingContext) -> TrainSession:
        """Build the plan's training. Raises ValueError when a step of the plan matches nothing."""


class Backend(Protocol):
    """A module ``harness.backends.<name>_backend``; ``harness.backends.catalogue`` lists them."""

    def lower(self, plan: Plan, context: LoweringContext) -> Session:
        """Build the plan's pipeline. Raises ValueError when a step of the plan matches nothing."""
