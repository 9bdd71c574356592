"""Inputs of the next steps, prepared by threads ahead of the one that uses them: in order, and never too far ahead."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Drawn = TypeVar("Drawn")
Ready = TypeVar("Ready")


class Prefetch(Generic[Drawn, Ready]):
    """``threads`` threads that prepare at most ``depth`` inputs ahead. They wait without using the processor, keep
    nothing meanwhile of what they have prepared for, and end when this object is gone.

    ``begin`` is called once in each thread.
    """

    def __init__(self, depth: int, threads: int, begin: Callable[[], None]) -> None:
        # The threads know the desk and not this object: they would keep it, and it would never be gone.
        self._desk: _Desk[Drawn, Ready] = _Desk(depth)
        started = threading.Barrier(threads + 1)
        for _ in range(threads):
            threading.Thread(target=_serve, args=(self._desk, begin, started), daemon=True).start()
        started.wait()
        weakref.finalize(self, self._desk.close)

    def take(self, steps: int, draw: Callable[[], Drawn], prepare: Callable[[Drawn], Ready]) -> Iterator[Ready]:
        """The inputs of ``steps`` steps, in order. Nothing is prepared before the first is asked for, nor beyond the
        last: what is measured over them holds all of their work and no other's.

        ``draw`` is called in order and never twice at one time; ``prepare`` from several threads. Raises what either
        of them raises.
        """
        run = _Run(steps, draw, prepare)
        self._desk.begin(run)
        try:
            for number in range(steps):
                yield self._desk.next(run, number)
        finally:
            self._desk.end(run)


def _serve(desk: _Desk[Any, Any], begin: Callable[[], None], started: threading.Barrier) -> None:
    begin()
    started.wait()
    while desk.work():
        pass


class _Desk(Generic[Drawn, Ready]):
    """Where one thread asks for inputs and others prepare them: the run that is under way, if one is."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._changed = threading.Condition()
        self._run: _Run[Drawn, Ready] | None = None
        self._closed = False

    def begin(self, run: _Run[Drawn, Ready]) -> None:
        """``run`` is under way."""
        with self._changed:
            self._run = run
            self._changed.notify_all()

    def end(self, run: _Run[Drawn, Ready]) -> None:
        """Nothing more is drawn of ``run``."""
        with self._changed:
            run.steps = run.drawn
            self._run = None

    def close(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self, run: _Run[Drawn, Ready], number: int) -> Ready:
        """The input of step ``number``, waited for. Raises what its preparation raised."""
        with self._changed:
            while number not in run.ready and run.failure is None:
                self._changed.wait()
            if run.failure is not None:
                raise run.failure
            found = run.ready.pop(number)
            run.taken = number + 1
            self._changed.notify_all()
        return found

    def work(self) -> bool:
        """Wait until an input may be prepared, and do so; False when no more will be asked for."""
        with self._changed:
            # Whoever waits holds neither a run nor an input: they hold the model.
            self._changed.wait_for(self._has_work)
            run = self._run
            if self._closed or run is None:
                return False
            number = run.drawn
            run.drawn += 1
            try:
                drawn = run.draw()
            except BaseException as error:  # whoever waits must hear of it, whatever it is
                self._failed(run, error)
                return True
        try:
            ready = run.prepare(drawn)
        except BaseException as error:
            with self._changed:
                self._failed(run, error)
            return True
        with self._changed:
            run.ready[number] = ready
            self._changed.notify_all()
        return True

    def _has_work(self) -> bool:
        return self._closed or (self._run is not None and self._run.may_draw(self._depth))

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
