"""Steps of a training whose inputs come with what is derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from optimizations.smart_stage.recipe import Recipe
from zoo.learning import Given
from zoo.training_batches import Draw


class Prepared(Protocol):
    """Steps from inputs that are there (``zoo.learning.PlainSteps``)."""

    def prepare(self, draw: Draw) -> list[Given]:
        """The input of a step; any thread may do so ahead."""

    def learn(self, given: Sequence[Given]) -> Any:
        """One update from an input that is there."""


class DerivedAhead:
    """``steps`` of which each input is prepared with the results of ``recipe``; the updates are theirs."""

    def __init__(self, steps: Prepared, recipe: Recipe) -> None:
        self._steps, self._recipe = steps, recipe

    def prepare(self, draw: Draw) -> list[Given]:
        """The input of a step, or those of its parts; any thread may do so ahead."""
        return [given._replace(known=self._recipe.make(given.input)) for given in self._steps.prepare(draw)]

    read = prepare

    def learn(self, given: Sequence[Given]) -> Any:
        """One update from an input that is there."""
        return self._steps.learn(given)

    def step(self, draw: Draw) -> Any:
        """One update, its input included."""
        return self.learn(self.prepare(draw))
