"""Asks the spec of a third party's plug-in, in a process of its own: ``python -m optimizations.spec_child``.

The spec's functions are other people's code, and nobody else's process runs them. One JSON request comes by standard
input: "path" (of imports), "target" ("module:attribute"), "call", and what the call takes; one JSON answer leaves by
standard output, ``{"value": ...}``, or ``{"refused": message, "as": "plan" | "value" | "plugin"}``. What the plug-in
itself prints goes to standard error. The calls are those of ``optimizations.contract.Optimization``:

* ``describe``: its fields, and those of its options. ``options`` (options): whether these may be.
* ``claims``, ``apply`` (pipeline as JSON text, options), ``native`` (capabilities), ``lowered_on`` (options).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from optimizations.contract import Optimization, PlanError
from optimizations.option_types import fields_to_json
from optimizations.plan_json import pipeline_from_json, pipeline_to_json

CODE = frozenset({"options", "claims", "apply", "native", "narrowed", "phase"})
"""Fields of a spec that are no plain values."""


class NoPluginError(Exception):
    """The target is no plug-in; the message says what it is."""


def answer(request: Mapping[str, Any]) -> Any:
    """The value of one call. Raises whatever the plug-in raises."""
    spec = load(request["target"])
    call = request["call"]
    if call == "describe":
        plain = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.name not in CODE}
        try:
            return {**plain, "phase": spec.phase.name, "options": fields_to_json(spec.options)}
        except ValueError as error:
            raise NoPluginError(f"cannot be described: {error}") from error
    if call == "native":
        return bool(spec.native(frozenset(request["capabilities"])))
    options = _options(spec, request["options"])
    if call == "lowered_on":
        return list(spec.lowered_on(options))
    if call == "options":
        return None
    pipeline = pipeline_from_json(request["pipeline"])
    if call == "claims":
        return list(spec.claims(pipeline, options))
    return pipeline_to_json(spec.apply(pipeline, options))


def load(target: str) -> Optimization:
    """The object that an entry point names. Raises NoPluginError where it cannot be imported or is something else."""
    module, _, attribute = target.partition(":")
    try:
        spec: Any = importlib.import_module(module)
        for name in attribute.split("."):
            spec = getattr(spec, name)
    except Exception as error:
        raise NoPluginError(f"cannot be imported ({type(error).__name__}: {error})") from error
    if not isinstance(spec, Optimization):
        raise NoPluginError(f"names {target!r}, which is a {type(spec).__name__} and not an Optimization")
    return spec


def _options(spec: Optimization, given: Mapping[str, Any]) -> Any:
    """JSON has no tuples: a list is one where the default is."""
    defaults = {f.name: getattr(spec.options(), f.name) for f in dataclasses.fields(spec.options)} if given else {}
    tuples = {name for name, value in defaults.items() if isinstance(value, tuple)}
    return spec.options(**{n: tuple(v) if n in tuples and isinstance(v, list) else v for n, v in given.items()})


def main() -> None:
    """Entry point of the process."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.read())
    sys.path[:] = request["path"]
    try:
        reply: dict[str, Any] = {"value": answer(request)}
    except NoPluginError as error:
        reply = {"refused": str(error), "as": "plugin"}
    except PlanError as error:
        reply = {"refused": str(error), "as": "plan"}
    except ValueError as error:
        reply = {"refused": str(error), "as": "value"}
    except Exception as error:
        reply = {"refused": f"fails: its {request['call']} ended with {type(error).__name__}: {error}", "as": "plugin"}
    with out:
        json.dump(reply, out)


if __name__ == "__main__":
    main()
