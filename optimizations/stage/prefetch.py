"""Inputs of the next steps, prepared by threads ahead of the one that uses them: in order, and never too far ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Drawn = TypeVar("Drawn")
Ready = TypeVar("Ready")


class Prefetch(Generic[Drawn, Ready]):
    """``threads`` threads that prepare at most ``depth`` inputs ahead. They wait without using the processor.

    ``begin`` is called once in each thread.
    """

    def __init__(self, depth: int, threads: int, begin: Callable[[], None]) -> None:
        self._depth = depth
        self._changed = threading.Condition()
        self._run: _Run[Drawn, Ready] | None = None
        started = threading.Barrier(threads + 1)
        for _ in range(threads):
            threading.Thread(target=self._serve, args=(begin, started), daemon=True).start()
        started.wait()

    def take(self, steps: int, draw: Callable[[], Drawn], prepare: Callable[[Drawn], Ready]) -> Iterator[Ready]:
        """The inputs of ``steps`` steps, in order. Nothing is prepared before the first is asked for, nor beyond the
        last: what is measured over them holds all of their work and no other's.

        ``draw`` is called in order and never twice at one time; ``prepare`` from several threads. Raises what either
        of them raises.
        """
        run = _Run(steps, draw, prepare)
        with self._changed:
            self._run = run
            self._changed.notify_all()
        try:
            for number in range(steps):
                yield self._next(run, number)
        finally:
            with self._changed:
                run.steps = run.drawn
                self._run = None

    def _next(self, run: _Run[Drawn, Ready], number: int) -> Ready:
        with self._changed:
            while number not in run.ready and run.failure is None:
                self._changed.wait()
            if run.failure is not None:
                raise run.failure
            found = run.ready.pop(number)
            run.taken = number + 1
            self._changed.notify_all()
        return found

    def _serve(self, begin: Callable[[], None], started: threading.Barrier) -> None:
        begin()
        started.wait()
        while True:
            with self._changed:
                while (run := self._run) is None or not run.may_draw(self._depth):
                    self._changed.wait()
                number, drawn = run.drawn, None
                run.drawn += 1
                try:
                    drawn = run.draw()
                except BaseException as error:  # whoever waits must hear of it, whatever it is
                    self._failed(run, error)
                    continue
            try:
                ready = run.prepare(drawn)
            except BaseException as error:
                with self._changed:
                    self._failed(run, error)
                continue
            with self._changed:
                run.ready[number] = ready
                self._changed.notify_all()

    def _failed(self, run: _Run[Drawn, Ready], error: BaseException) -> None:
        run.failure = run.failure or error
        self._changed.notify_all()


class _Run(Generic[Drawn, Ready]):
    """One stretch of steps: how many are drawn, ready and taken."""

    def __init__(self, steps: int, draw: Callable[[], Drawn], prepare: Callable[[Drawn], Ready]) -> None:
        self.steps, self.draw, self.prepare = steps, draw, prepare
        self.drawn = self.taken = 0
        self.ready: dict[int, Any] = {}
        self.failure: BaseException | None = None

    def may_draw(self, depth: int) -> bool:
        """Whether another input may be begun."""
        return self.failure is None and self.drawn < self.steps and self.drawn < self.taken + depth
