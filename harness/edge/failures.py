"""Errors as people see them: one paragraph and an exit code; a traceback only on request."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence

from harness.errors import ConfigurationError, ExitCode, SutFailure
from harness.record.reader import RecordError
from optimizations.contract import PlanError

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C ended (128 + SIGINT)."""
TERMINATED = 143
"""Exit code of a run that SIGTERM ended (128 + SIGTERM)."""
TRACEBACK_VARIABLE = "RECARENA_TRACEBACK"


def exit_code(error: BaseException) -> ExitCode:
    """2 for what the user asked for and cannot have, 1 for everything else."""
    return ExitCode.BAD_CONFIGURATION if isinstance(error, (ConfigurationError, PlanError)) else ExitCode.FAILED


def explain(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """The paragraph for ``error``; with the traceback if the environment or ``hydra.verbose`` asks for it."""
    if wants_traceback(arguments):
        return "".join(traceback.format_exception(error)).rstrip()
    if isinstance(error, (ConfigurationError, PlanError, RecordError, SutFailure)):
        return f"error: {error}"
    return (
        f"error: {type(error).__name__}: {error} (not foreseen: run again with {TRACEBACK_VARIABLE}=1 "
        "for the traceback, and report it)"
    )


def wants_traceback(arguments: Sequence[str]) -> bool:
    """Whether RECARENA_TRACEBACK is set or an override switches hydra.verbose on."""
    verbose = any(a.startswith("hydra.verbose=") and not a.lower().endswith("=false") for a in arguments)
    return verbose or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
