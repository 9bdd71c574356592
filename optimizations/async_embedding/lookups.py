"""Steps whose embeddings are looked up by another thread while the step before is computed.

A lookup reads the tables between two updates, never during one: it begins when the update before the last one is done,
and the next update waits for it. So no row is half old and half new, and which one is read follows from the step's
number and not from the speed of a thread. With ``lag`` 1 step t has the rows as update t - 2 left them, and the first
step of a stretch, before which nothing is in flight, those of update t - 1. With ``lag`` 0 every step has those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from zoo.layers.tensors import Embedded
from zoo.learning import Given, Learner, gradients

FARTHEST = 1
"""Updates that a row may miss."""


class LookedUp(NamedTuple):
    """An input, its vectors, and how many updates the tables had seen when they were looked up."""

    given: Given
    embedded: Embedded
    updates: int


class Lookups:
    """Steps of ``learner``; ``begin`` is called once in the thread that looks up. stalest: updates that a step's rows
    have missed so far, at most."""

    def __init__(self, learner: Learner, lag: int, begin: Callable[[], None]) -> None:
        if not 0 <= lag <= FARTHEST:
            raise ValueError(f"rows may miss 0 to {FARTHEST} updates, not {lag}")
        self._learner, self._lag, self.stalest = learner, lag, 0
        self._thread = ThreadPoolExecutor(1, initializer=begin)
        self._thread.submit(lambda: None).result()  # begun now: a pool starts its thread with the first order

    @property
    def report(self) -> dict[str, Any]:
        """For the record."""
        return {
            "summary": f"lookups beside the step before: their rows miss at most {self._lag} update",
            "staleness_steps": self._lag,
        }

    def learn(self, inputs: Iterable[Sequence[Given]]) -> Iterator[Sequence[Given]]:
        """One update from each of ``inputs``; yields it after its update. Nothing is looked up beyond the last one.

        Raises what the inputs, a lookup or a step raises.
        """
        coming = iter(inputs)
        current = self._begun(coming).result()
        while current is not None:
            following = self._step(current, coming)
            yield [current.given]
            current = following

    def _step(self, current: LookedUp, coming: Iterator[Sequence[Given]]) -> LookedUp | None:
        """One update; returns the next input with its vectors."""
        learner = self._learner
        missed = learner.steps - current.updates
        assert missed <= self._lag, f"the rows of this step have missed {missed} updates"
        self.stalest = max(self.stalest, missed)
        learner.begin()
        beside = self._begun(coming) if self._lag else None
        try:
            gradients(learner.model, current.given, embedded=current.embedded)
        finally:
            if beside is not None:
                wait([beside])  # before the tables move, and before anybody else asks for an input
        following = None if beside is None else beside.result()
        learner.update()
        return self._begun(coming).result() if beside is None else following

    def _begun(self, coming: Iterator[Sequence[Given]]) -> Future[LookedUp | None]:
        return self._thread.submit(self._next, coming)

    def _next(self, coming: Iterator[Sequence[Given]]) -> LookedUp | None:
        """The next input, which is waited for here, with its vectors; None after the last one."""
        whole = next(coming, None)
        if whole is None:
            return None
        (given,) = whole
        return LookedUp(given, self._learner.model.embedded(given.input.features), self._learner.steps)
