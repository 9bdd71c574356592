"""One command line from its first check to its exit code: errors become paragraphs, sweeps run to their end."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from harness.console.observer import console_for
from harness.edge.config import CONF, plan_runs
from harness.edge.experiments import GROUP, NOT_AGAIN, with_sweep
from harness.edge.failures import INTERRUPTED, TERMINATED, exit_code, explain
from harness.edge.sweep import Outcome, Sweep
from harness.edge.trial_builder import build

MULTIRUN_FLAGS = ("-m", "--multirun")


class Command:
    """Checks the command line, lets Hydra run its trials, and turns what happened into an exit code."""

    def __init__(self, arguments: Sequence[str], run_trial: Callable[[Any, Sweep], Outcome]) -> None:
        self._arguments = list(arguments)
        self._multirun = any(argument in MULTIRUN_FLAGS for argument in arguments)
        self._run_trial = run_trial
        self._overrides = [a for a in arguments if not a.startswith("-")]
        if self._multirun:
            self._overrides = with_sweep(self._overrides, CONF / GROUP)
        self._foreign_flags = [a for a in arguments if a.startswith("-") and a not in MULTIRUN_FLAGS]
        self._sweep = Sweep(self._overrides, self._multirun)

    def trial(self, config: Any) -> None:
        """Hydra's task. An error ends this trial, not the sweep."""
        try:
            outcome = self._run_trial(config, self._sweep)
        except Exception as error:
            text = explain(error, self._arguments)
            _tell(text)
            outcome = Outcome(code=exit_code(error), error=text)
        self._sweep.add(outcome)

    def run(self, application: Callable[[], Any]) -> int:
        """Check, run, summarise. Bad configuration is found before the first trial and leaves nothing behind."""
        signal.signal(signal.SIGTERM, _terminate)
        try:
            self._check()
            self._launch(application)
        except KeyboardInterrupt:
            self._interrupted()
            return INTERRUPTED
        except Exception as error:
            _tell(explain(error, self._arguments))
            return int(exit_code(error))
        return int(self._sweep.close(console_for()))

    def _check(self) -> None:
        """Build every trial once. Hydra's own flags (--cfg, --info, ...) are left to Hydra."""
        if not self._foreign_flags:
            for values in plan_runs(self._overrides, self._multirun):
                build(values)

    def _launch(self, application: Callable[[], Any]) -> None:
        """Run Hydra's main, flags first. What a sweeper writes about itself goes to a folder that is removed."""
        with tempfile.TemporaryDirectory(prefix="recarena-sweep-") as folder:
            arguments = self._arguments
            if not self._foreign_flags:
                sweep = ["-m", f"hydra.sweep.dir={folder}", NOT_AGAIN] if self._multirun else []
                arguments = [*sweep, *self._overrides]
            sys.argv = [sys.argv[0], *arguments]
            application()

    def _interrupted(self) -> None:
        if self._multirun and self._sweep.outcomes:
            self._sweep.close(console_for())
        ending = "goes on where this one stopped" if self._multirun else "starts it again (trained weights are kept)"
        _tell(f"interrupted: nothing is kept of the trial under way; the same command {ending}")


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
