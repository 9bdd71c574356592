"""Errors that a user sees as one paragraph, and the exit codes they lead to (docs/using.md)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Process exit codes, each explained in docs/using.md; of several, see ``worst``."""

    OK = 0
    FAILED = 1
    BAD_CONFIGURATION = 2
    GATE_FAILED = 3
    SLA_UNREACHABLE = 4
    REFUSED = 5


PRECEDENCE = (
    ExitCode.BAD_CONFIGURATION,
    ExitCode.REFUSED,
    ExitCode.GATE_FAILED,
    ExitCode.SLA_UNREACHABLE,
    ExitCode.FAILED,
    ExitCode.OK,
)


def worst(codes: list[ExitCode]) -> ExitCode:
    """The code that wins by precedence; OK for an empty list."""
    return min(codes, key=PRECEDENCE.index, default=ExitCode.OK)


class ConfigurationError(ValueError):
    """Bad input: what, where, and how to mend it, in one paragraph. Exit code 2."""


class SutFailure(RuntimeError):  # noqa: N818 (it is the system that fails, not the call)
    """The system under test crashed, hung or broke the protocol. Carries its traceback. Exit code 1."""
