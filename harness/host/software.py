"""Versions of what a measurement runs on: Python, and the packages that this one needs, whoever asks for them."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from harness.host.environment import packages, project_root

PYTHON = "python"
ROOT = "recarena"
NOT_MEASURED = frozenset({"dev"})
"""Extras of ``ROOT`` that no measurement loads."""
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def versions(environment: Mapping[str, Any]) -> dict[str, str]:
    """Version by canonical name, Python's among them, of an environment as ``describe_environment`` writes it down;
    empty where it says nothing."""
    found = {canonical(name): str(version) for name, version in environment.get("packages", {}).items()}
    return found | ({PYTHON: str(environment[PYTHON])} if PYTHON in environment else {})


def other_versions(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What both have, each in another version: "torch 2.11.0, not 2.12.0", by name. Only what ``needed`` names counts.

    A package that one of the two lacks is no other version: a trial that needs it ends with an error.
    """
    changed = {name for name in then.keys() & now.keys() if then[name] != now[name]}
    return [f"{name} {then[name]}, not {now[name]}" for name in sorted(changed & needed())] if changed else []


def needed() -> frozenset[str]:
    """Canonical names of Python and of every distribution that ``ROOT`` needs, by itself or through another one, with
    all extras but those that nobody measures with."""
    found, waiting = {PYTHON}, list(_requirements(ROOT))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _requirements(name)
    return frozenset(found - {ROOT})


def here() -> dict[str, str]:
    """``versions`` of this process's environment."""
    return versions({PYTHON: python_version(), "packages": packages()})


def python_version() -> str:
    """Of the running interpreter, "3.12.4"."""
    return sys.version.split()[0]


def canonical(name: str) -> str:
    """One spelling for all that pip takes for one name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(name: str) -> Iterator[str]:
    """Whatever a distribution asks for: ``ROOT`` with the extras that are measured with, others without any."""
    lines = _own_requirements() if name == ROOT else [line for line in _installed(name) if not _EXTRA.search(line)]
    for line in lines:
        yield canonical(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])


def _own_requirements() -> list[str]:
    """As the checkout says it; what pip noted of it may be older. Without a checkout, what pip noted."""
    project = project_root() / "pyproject.toml"
    if not project.is_file():
        return [line for line in _installed(ROOT) if not NOT_MEASURED & set(_EXTRA.findall(line))]
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    extras = table.get("optional-dependencies", {})
    return [*table["dependencies"], *(line for name in extras.keys() - NOT_MEASURED for line in extras[name])]


def _installed(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
