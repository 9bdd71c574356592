"""Whether the packages of a trial's optimizations are installed: known before any work, without importing one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from harness.errors import ConfigurationError
from optimizations.registry import available


def require_packages(opts: Iterable[str]) -> None:
    """Raises ConfigurationError that names what is missing, and the command that installs it."""
    known = available()
    for name in opts:
        missing = [package for package in known[name].packages if importlib.util.find_spec(package) is None]
        if missing:
            raise ConfigurationError(
                f"opt: {name!r} needs {', '.join(missing)}, and {'that is' if len(missing) == 1 else 'they are'} not "
                f"installed: {known[name].install}; or leave {name} out"
            )
