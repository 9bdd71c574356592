"""Plug-ins of other packages, as the referee sees them: by name from their entry points, and whatever they say of
themselves from a process of its own (``optimizations.spec_child``). None of their code is imported here.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from optimizations.option_types import options_class
from optimizations.plan_json import pipeline_from_json, pipeline_to_json

ENTRY_POINT_GROUP = "recarena.optimizations"
COMMAND = (sys.executable, "-m", "optimizations.spec_child")
ANSWER_S = 60.0
CHOICES: Mapping[str, tuple[str, ...]] = {
    "scope": ("serve", "train", "both"),
    "division": ("closed", "open"),
    "phase": tuple(phase.name for phase in Phase),
}


def registered() -> tuple[EntryPoint, ...]:
    """The entry points of the group, by name; none is loaded."""
    return _registered_on(tuple(sys.path))


@functools.cache
def _registered_on(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What the packages on ``path``, which is ``sys.path``, register: a file of each of them is read for it."""
    return tuple(sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value)))


def described(point: EntryPoint) -> Optimization:
    """What the plug-in says of itself; its functions ask the other process. Raises PlanError where it is none, or has
    another name than its entry point."""
    return _described(point, tuple(sys.path))


@functools.cache
def _described(point: EntryPoint, path: tuple[str, ...]) -> Optimization:
    said = _ask(point, "describe")
    if said["name"] != point.name:
        raise PlanError(
            f"the entry point {point.name!r} of the group {ENTRY_POINT_GROUP!r} leads to the optimization "
            f"{said['name']!r}: give both one name, since plug-ins are found by it before they are read"
        )
    for field, choices in CHOICES.items():
        if said[field] not in choices:
            raise PlanError(f"the plug-in {point.name!r} has {field}={said[field]!r}: use one of {', '.join(choices)}")
    options = options_class(
        f"OptionsOf{point.name.title()}", said.pop("options"), lambda values: _ask(point, "options", options=values)
    )
    phase = Phase[said.pop("phase")]
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}

    def claims(pipeline: Pipeline, chosen: Any) -> tuple[str, ...]:
        return tuple(_ask(point, "claims", pipeline=pipeline_to_json(pipeline), options=_plain(chosen)))

    def apply(pipeline: Pipeline, chosen: Any) -> Pipeline:
        return pipeline_from_json(_ask(point, "apply", pipeline=pipeline_to_json(pipeline), options=_plain(chosen)))

    return Optimization(
        **plain,
        phase=phase,
        options=options,
        claims=claims,
        apply=apply,
        narrowed=lambda chosen: tuple(_ask(point, "lowered_on", options=_plain(chosen))),
        native=lambda capabilities: bool(_ask(point, "native", capabilities=sorted(capabilities))),
    )


def folder_of(point: EntryPoint) -> Path:
    """Of the package that registers it, which is not imported; of a module that stands alone, its file. PlanError where
    there is none."""
    package = point.module.partition(".")[0]
    found = importlib.util.find_spec(package)
    if found is None:
        raise PlanError(
            f"the plug-in {point.name!r} ({point.value}) has no package {package!r}: uninstall what is left"
        )
    places = found.submodule_search_locations
    return Path(next(iter(places))) if places else Path(str(found.origin))


def _plain(options: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def _ask(point: EntryPoint, call: str, **given: Any) -> Any:
    request = json.dumps({"path": sys.path, "target": point.value, "call": call, **given}, sort_keys=True)
    reply = json.loads(_answer_to(request))
    if "value" in reply:
        return reply["value"]
    if reply["as"] == "plan":
        raise PlanError(reply["refused"])
    if reply["as"] == "value":
        raise ValueError(reply["refused"])
    raise PlanError(
        f"the plug-in {point.name!r} ({point.value}) of the entry-point group {ENTRY_POINT_GROUP!r} "
        f"{reply['refused']}: mend it or uninstall its package"
    )


@functools.cache
def _answer_to(request: str) -> str:
    """The functions of a spec are pure, so a question is asked once."""
    root = str(Path(__file__).resolve().parents[1])
    try:
        done = subprocess.run(
            COMMAND, input=request, cwd=root, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        return json.dumps({"refused": f"gave no answer within {ANSWER_S:.0f} s", "as": "plugin"})
    if done.returncode or not done.stdout:
        words = done.stderr.strip().splitlines()[-1:] or [f"code {done.returncode}"]
        return json.dumps({"refused": f"ended without an answer ({words[0]})", "as": "plugin"})
    return done.stdout
