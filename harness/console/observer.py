"""How a run talks while it works: progress bars on a terminal, plain lines into a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.console.report import plan_table, result_table
from harness.record.result import PlanLine, Result

PIPE_WIDTH = 150


class Observer(Protocol):
    """What the measuring code tells its audience. No method may raise or block for long."""

    def plan(self, lines: Sequence[PlanLine], slack: float | None, baseline_slack: float | None) -> None:
        """The plan as it was lowered, before the timed work; slack of the candidate and of the baseline."""

    def stage(self, name: str, total: float | None = None, unit: str = "s") -> None:
        """A new stage of ``total`` units begins (None: unknown length); the one before it is over."""

    def advance(self, amount: float, note: str = "") -> None:
        """``amount`` units of the current stage are done; ``note`` says what was last seen ("410 qps, 0.7 % late")."""

    def warn(self, text: str) -> None:
        """Something that the reader must know and that does not end the run."""

    def done(self, result: Result) -> None:
        """The measurement is complete."""


class Forgiving:
    """A stream whose reader may end, and whose disk may be full: what is said then is lost, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class TerminalObserver:
    """Progress bars with rates and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def plan(self, lines: Sequence[PlanLine], slack: float | None, baseline_slack: float | None) -> None:
        self._console.print(plan_table(lines, slack, baseline_slack))

    def stage(self, name: str, total: float | None = None, unit: str = "s") -> None:
        progress = self._running()
        self._finish_task()
        self._task = progress.add_task(name, total=total, note="", unit=unit)

    def advance(self, amount: float, note: str = "") -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=amount, note=note)

    def warn(self, text: str) -> None:
        self._console.print(f"[yellow]warning:[/] {_escaped(text)}")

    def done(self, result: Result) -> None:
        self.close()
        self._console.print(result_table(result))

    def note(self, text: str) -> None:
        """One line of fact, printed as it is."""
        self._console.print(_escaped(text), soft_wrap=True)

    def close(self) -> None:
        """Stop the bars; safe to call twice."""
        if self._progress is not None:
            self._finish_task()
            self._progress.stop()
            self._progress, self._task = None, None

    def _running(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f} {task.fields[unit]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._progress.start()
        return self._progress

    def _finish_task(self) -> None:
        if self._progress is not None and self._task is not None:
            task = self._progress.tasks[self._progress.task_ids.index(self._task)]
            self._progress.update(self._task, total=task.completed or 1, completed=task.completed or 1)


class PlainObserver:
    """One line per stage and per tenth of it, without control characters."""

    def __init__(self, stream: TextIO) -> None:
        self._console = console_for(stream)
        self._stream = stream
        self._name, self._unit = "", ""
        self._total: float | None = None
        self._completed = 0.0
        self._told = 0

    def plan(self, lines: Sequence[PlanLine], slack: float | None, baseline_slack: float | None) -> None:
        self._console.print(plan_table(lines, slack, baseline_slack))

    def stage(self, name: str, total: float | None = None, unit: str = "s") -> None:
        self._name, self._total, self._unit = name, total, unit
        self._completed, self._told = 0.0, 0
        self._line(name if total is None else f"{name}: {total:.0f} {unit}")

    def advance(self, amount: float, note: str = "") -> None:
        self._completed += amount
        if not self._total:
            return
        tenth = int(10 * self._completed / self._total + 1e-9)
        if tenth > self._told:
            self._told = tenth
            ending = f"  {note}" if note else ""
            self._line(f"{self._name}: {self._completed:.0f}/{self._total:.0f} {self._unit}{ending}")

    def warn(self, text: str) -> None:
        self._line(f"warning: {text}")

    def done(self, result: Result) -> None:
        self._console.print(result_table(result))

    def note(self, text: str) -> None:
        """One line of fact, printed as it is."""
        self._line(text)

    def close(self) -> None:
        """Nothing is held open."""

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def observer_for(stream: TextIO | None = None) -> TerminalObserver | PlainObserver:
    """Bars if ``stream`` (default: standard output) is a terminal, plain lines otherwise."""
    target = cast(TextIO, Forgiving(sys.stdout if stream is None else stream))
    return TerminalObserver(console_for(target)) if target.isatty() else PlainObserver(target)


def console_for(stream: TextIO | None = None) -> Console:
    """A console as wide as the terminal, or ``PIPE_WIDTH`` columns without colours for a pipe."""
    target = sys.stdout if stream is None else stream
    if target.isatty():
        return Console(file=target)
    return Console(file=target, force_terminal=False, width=PIPE_WIDTH, no_color=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
