"""Where plug-ins are found: the folders beside this file, and the entry-point group ``recarena.optimizations``."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from optimizations.contract import Optimization, PlanError

ENTRY_POINT_GROUP = "recarena.optimizations"


def available() -> dict[str, Optimization]:
    """Every known plug-in by name, sorted; no framework is imported.

    Raises PlanError when an installed third-party plug-in cannot be loaded or takes a name that is taken.
    """
    found = dict(sorted((spec.name, spec) for spec in map(_built_in, _built_in_names())))
    for point in _third_party():
        spec = _load(point)
        if spec.name in found:
            raise PlanError(
                f"the plug-in {point.value!r} registers the optimization {spec.name!r}, a name that is already taken: "
                "give its SPEC another name, or uninstall one of the two packages"
            )
        found[spec.name] = spec
    return dict(sorted(found.items()))


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
    """Folder of the package of each of these optimizations that another package registers, without repeats.

    Raises PlanError as ``available`` does.
    """
    wanted = set(names) - set(_built_in_names())
    if not wanted:
        return ()
    found = {_folder_of(point.module.partition(".")[0]) for point in _third_party() if _load(point).name in wanted}
    return tuple(sorted(found))


def _folder_of(package: str) -> Path:
    """Of a package that has been imported; of a module that stands alone, its file."""
    module = sys.modules[package]
    return Path(module.__path__[0]) if hasattr(module, "__path__") else Path(str(module.__file__))


def _built_in_names() -> list[str]:
    return sorted(spec.parent.name for spec in Path(__file__).parent.glob("*/spec.py"))


def _built_in(name: str) -> Optimization:
    spec = importlib.import_module(f"optimizations.{name}.spec").SPEC
    assert isinstance(spec, Optimization)
    return spec


def _third_party() -> tuple[EntryPoint, ...]:
    return _entry_points_on(tuple(sys.path))


@functools.cache
def _entry_points_on(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What the packages on ``path``, which is ``sys.path``, register: a file of each of them is read for it."""
    return tuple(sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value)))


def _load(point: EntryPoint) -> Optimization:
    try:
        spec = point.load()
    except Exception as error:
        raise PlanError(
            f"the plug-in {point.name!r} ({point.value}) of the entry-point group {ENTRY_POINT_GROUP!r} cannot be "
            f"imported ({type(error).__name__}: {error}): mend it or uninstall its package"
        ) from error
    if not isinstance(spec, Optimization):
        raise PlanError(
            f"the entry point {point.name!r} of the group {ENTRY_POINT_GROUP!r} names {point.value!r}, which is a "
            f"{type(spec).__name__} and not an Optimization: point it at the SPEC of the plug-in's spec.py"
        )
    return spec


def _package_of(name: str) -> str:
    if name in _built_in_names():
        return f"optimizations.{name}"
    for point in _third_party():
        if _load(point).name == name:
            return point.module.rpartition(".")[0]
    raise PlanError(f"there is no optimization {name!r} installed; available: {', '.join(available())}")
