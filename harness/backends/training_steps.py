"""What takes the steps of a training on PyTorch, as the session sees it: by themselves, or one behind the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from zoo.learning import Given
from zoo.training_batches import Draw

Load = Callable[[Path], Mapping[str, Any]]
"""The state of a plain learner from its file: all of it, or as much as the session at hand has."""


class Steps(Protocol):
    """A way to take steps: ``zoo.learning.PlainSteps``, or one that ends where that does."""

    def prepare(self, draw: Draw) -> list[Given]:
        """The input of a step; any thread may do so ahead."""

    def read(self, draw: Draw) -> list[Given]:
        """The same, as ``step`` does it."""

    def learn(self, given: Sequence[Given]) -> Any:
        """One update from an input that is there."""

    def step(self, draw: Draw) -> Any:
        """One update, its input included."""


class Stream(Protocol):
    """A way to take steps that wants to know the next input while it takes one."""

    def learn(self, inputs: Iterable[Sequence[Given]]) -> Iterator[Sequence[Given]]:
        """One update from each of ``inputs``; yields it after its update. Nothing is begun beyond the last one."""
