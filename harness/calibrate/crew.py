"""Worker processes for jobs that share nothing; none of them outlives its main process by more than one job."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast


class WorkerLost(RuntimeError):  # noqa: N818 (it is the worker that is lost)
    """A worker process ended before its job did."""


def run_all(work: Callable[[Any], Any], jobs: Iterable[Any], workers: int) -> Iterator[Any]:
    """``work(job)`` of every job as they end, several at a time; a job is taken when a worker is free.

    work: a function of a module. An exception in it is raised here. Raises WorkerLost when a worker is killed. Every
    way out ends the workers; if this process is killed itself, each sees that nobody listens, and ends.
    """
    crew = [_Worker(work) for _ in range(workers)]
    waiting, busy = iter(jobs), dict[Connection, _Worker]()
    try:
        for worker in crew:
            worker.take_next(waiting, busy)
        while busy:
            for line in wait(list(busy)):
                worker = busy.pop(cast(Connection, line))
                found = worker.result()
                worker.take_next(waiting, busy)
                yield found
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """One process and the line to it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(far_end, work), daemon=True)
        self._process.start()
        far_end.close()  # else the line would not end with the worker

    def take_next(self, waiting: Iterator[Any], busy: dict[Connection, _Worker]) -> None:
        """Begin the next job, if there is one."""
        for job in waiting:
            with suppress(BrokenPipeError):  # its result will say so
                self._line.send(job)
            busy[self._line] = self
            return

    def result(self) -> Any:
        """What the job that was begun has come to."""
        try:
            succeeded, found = self._line.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise WorkerLost(
                f"a worker process ended with code {self._process.exitcode} in the middle of its job. The machine's "
                "memory may be too small for so many: start again with fewer; what was done is kept"
            ) from None
        if not succeeded:
            raise found
        return found

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._line.close()
        self._process.terminate()
        self._process.join()


def _serve(line: Connection, work: Callable[[Any], Any]) -> None:
    """Do jobs until nobody sends one any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process gets it, too, and ends this one
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = line.recv()
            try:
                answer = True, work(job)
            except Exception as error:
                answer = False, error
            line.send(answer)
