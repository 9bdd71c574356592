"""Where plug-ins are found: the folders beside this file, and the entry-point group ``recarena.optimizations``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from optimizations.contract import Optimization, PlanError
from optimizations.third_party import described, folder_of, registered


class Known(Mapping[str, Optimization]):
    """Every known plug-in by name, sorted. One of another package is read, in a process of its own, when it is asked
    for and not before: what is installed, and not part of a trial, does not run beside it."""

    def __init__(self) -> None:
        self._points = {point.name: point for point in registered()}
        self._names = sorted({*_built_in_names(), *self._points})

    def __getitem__(self, name: str) -> Optimization:
        """Raises PlanError where a third party's plug-in cannot be read."""
        if name in self._points:
            return described(self._points[name])
        if name not in self._names:
            raise KeyError(name)
        return _built_in(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def available() -> Known:
    """Every known plug-in; no framework is imported.

    Raises PlanError when an installed third-party plug-in takes a name that is taken.
    """
    taken = set(_built_in_names())
    for point in registered():
        if point.name in taken:
            raise PlanError(
                f"the plug-in {point.value!r} registers the optimization {point.name!r}, a name that is already taken: "
                "give its SPEC and its entry point another name, or uninstall one of the two packages"
            )
        taken.add(point.name)
    return Known()


def lowering_module(name: str, backend: str) -> ModuleType | None:
    """The module ``lower_<backend>`` beside the plug-in's ``spec``; None when the plug-in has none to offer.

    Imports the framework: to be called in the system under test only.
    """
    package = _package_of(name)
    module = f"{package}.lower_{backend}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return None
        raise


def third_party_packages(names: Iterable[str]) -> tuple[Path, ...]:
    """Folder of the package of each of these optimizations that another package registers, without repeats. Nothing is
    imported."""
    wanted = set(names) - set(_built_in_names())
    return tuple(sorted({folder_of(point) for point in registered() if point.name in wanted}))


def _built_in_names() -> list[str]:
    return sorted(spec.parent.name for spec in Path(__file__).parent.glob("*/spec.py"))


def _built_in(name: str) -> Optimization:
    spec = importlib.import_module(f"optimizations.{name}.spec").SPEC
    assert isinstance(spec, Optimization)
    return spec


def _package_of(name: str) -> str:
    if name in _built_in_names():
        return f"optimizations.{name}"
    for point in registered():
        if point.name == name:
            return point.module.rpartition(".")[0]
    raise PlanError(f"there is no optimization {name!r} installed; available: {', '.join(available())}")
