"""The resolver: names and options in, an ordered plan or one clear error out. No framework is imported.

``resolve`` is pure. The order of the names never matters: steps are sorted by (phase, name), and the claims of one
phase are taken on the pipeline as it stands before that phase.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optimizations.contract import Optimization, Pipeline, Plan, PlanError, PlanStep, Scope, Training
from optimizations.plan_json import pipeline_from_json, pipeline_to_json, plan_from_json, plan_to_json
from optimizations.registry import available
from optimizations.slots import changed_slots
from zoo.blueprint import describe, describe_training
from zoo.configs import ModelConfig
from zoo.schema import Schema

__all__ = [
    "available",
    "check_fits",
    "first_pipeline",
    "pipeline_from_json",
    "pipeline_to_json",
    "plan_from_json",
    "plan_to_json",
    "resolve",
]

Requested = Mapping[str, Any] | Sequence[tuple[str, Any]]
Chosen = tuple[Optimization, Any]


def first_pipeline(config: ModelConfig, schema: Schema, backend: str, device: str, scope: Scope) -> Pipeline:
    """The pipeline of ``opt=[]``: every block by the reference, in fp32, the user side expanded first; in training,
    the plain step of ``zoo.learning``.

    Raises ValueError when the model cannot run on the schema (see ``zoo.blueprint.describe``).
    """
    return Pipeline(
        model=config.name,
        backend=backend,
        device=device,
        scope=scope,
        blocks=describe(config, schema) + (describe_training(config, schema) if scope == "train" else ()),
        train=Training() if scope == "train" else None,
    )


def resolve(
    pipeline: Pipeline,
    opts: Requested,
    capabilities: frozenset[str],
    known: Mapping[str, Optimization] | None = None,
) -> Plan:
    """Turn the requested optimizations into a plan for ``pipeline``.

    opts: name -> options (an options object, a mapping of overrides, or None), or a sequence of such pairs.
    capabilities: what the machine can do ("avx512_bf16", "amx_bf16", "avx512_vnni", "cuda", ...).
    known: the plug-ins to choose from; default ``available()``.
    Raises PlanError: unknown or repeated names, bad options, unmet requirements, conflicts, what cannot run here.
    """
    known = available() if known is None else known
    pairs = list(opts.items()) if isinstance(opts, Mapping) else list(opts)
    requested = chosen(pairs, known)
    _check_fits(pipeline.backend, pipeline.device, pipeline.scope, requested)
    steps: list[PlanStep] = []
    for _, group in itertools.groupby(requested, key=lambda pair: pair[0].phase):
        phase = list(group)
        claims = _phase_claims(pipeline, phase)
        for optimization, options in phase:
            pipeline = _apply(pipeline, optimization, options, claims[optimization.name])
            steps.append(_step(optimization, options, claims[optimization.name], pipeline, capabilities))
    return Plan(steps=tuple(steps), pipeline=pipeline)


def check_fits(
    backend: str, device: str, scope: Scope, opts: Requested, known: Mapping[str, Optimization] | None = None
) -> None:
    """What ``resolve`` refuses of ``opts`` whatever the model and its data: names, options, backend, device, scope,
    requirements, declared conflicts. Raises PlanError."""
    pairs = list(opts.items()) if isinstance(opts, Mapping) else list(opts)
    _check_fits(backend, device, scope, chosen(pairs, available() if known is None else known))


def chosen(pairs: Sequence[tuple[str, Any]], known: Mapping[str, Optimization]) -> list[Chosen]:
    """Optimizations and their options, in the order of application. Raises PlanError for names and options."""
    _check_names([name for name, _ in pairs], known)
    found = [(known[name], _options(known[name], given)) for name, given in pairs]
    return sorted(found, key=lambda pair: (pair[0].phase, pair[0].name))


def _check_names(names: Sequence[str], known: Mapping[str, Optimization]) -> None:
    for name in names:
        if name not in known:
            raise PlanError(f"opt: there is no optimization {name!r}{_nearest(name, known)}; available: {_list(known)}")
        if names.count(name) > 1:
            raise PlanError(f"opt: {name!r} is listed {names.count(name)} times; list it once")
    for name in names:
        coming = known[name].coming
        if coming is not None:
            raise PlanError(f"opt: {name!r} is a known name without an implementation yet: {coming}; leave it out")


def _check_fits(backend: str, device: str, scope: Scope, chosen: Sequence[Chosen]) -> None:
    """Scope, backend, device, requirements and declared conflicts."""
    names = {optimization.name for optimization, _ in chosen}
    for item, options in chosen:
        if item.scope not in ("both", scope):
            raise PlanError(
                f"opt: {item.name!r} works when scope={item.scope}, and this trial has scope={scope}: "
                f"say scope={item.scope}, or leave {item.name} out"
            )
        _check_backend(backend, item, options)
        if device not in item.devices:
            raise PlanError(f"opt: {item.name!r} does not run on device={device}; it does on: {_list(item.devices)}")
        missing = [name for name in item.requires if name not in names]
        if missing:
            raise PlanError(
                f"opt: {item.name!r} requires {_list(missing)}: write opt=[{','.join(sorted(names | set(missing)))}]"
            )
        for other, _ in chosen:
            if other.name in item.conflicts:
                raise PlanError(f"opt: {item.name!r} and {other.name!r} exclude each other: keep one of them")


def _check_backend(backend: str, item: Optimization, options: Any) -> None:
    able = item.lowered_on(options)
    if backend in able:
        return
    # Where others of its options could be lowered there, the options are what has to be told.
    asked = f" ({_render(options)})" if backend in item.backends else ""
    mend = f"change its options, or say backend={able[0]}" if asked else f"leave it out, or say backend={able[0]}"
    raise PlanError(
        f"opt: {item.name!r}{asked} cannot be lowered on backend={backend}; it can on: {_list(able)}; {mend}"
    )


def _phase_claims(pipeline: Pipeline, phase: Sequence[Chosen]) -> dict[str, tuple[str, ...]]:
    """Claims of each step of one phase on the same pipeline; two writers of one slot are a conflict."""
    claims: dict[str, tuple[str, ...]] = {}
    writer: dict[str, str] = {}
    for optimization, options in phase:
        name = optimization.name
        claims[name] = tuple(sorted(optimization.claims(pipeline, options)))
        if not claims[name]:
            raise PlanError(
                f"opt: {name!r} would change nothing of model={pipeline.model} with these options "
                f"({_render(options)}): leave it out, or switch on a part that the model has"
            )
        for slot in claims[name]:
            if slot in writer:
                raise PlanError(
                    f"opt: {writer[slot]!r} and {name!r} would both write the slot {slot!r} in phase "
                    f"{optimization.phase.name}: keep one of them, or narrow one by its options"
                )
            writer[slot] = name
    return claims


def _apply(pipeline: Pipeline, optimization: Optimization, options: Any, claims: tuple[str, ...]) -> Pipeline:
    result = optimization.apply(pipeline, options)
    changed = changed_slots(pipeline, result)
    unclaimed = [slot for slot in changed if slot not in claims]
    if unclaimed:
        raise PlanError(
            f"opt: {optimization.name!r} wrote the slots {_list(unclaimed)} without claiming them: this is a fault of "
            "the plug-in; its claims() must name every slot that its apply() writes"
        )
    if not changed:
        raise PlanError(
            f"opt: {optimization.name!r} with these options ({_render(options)}) leaves the pipeline as it is: "
            "leave it out, or give it options that differ from what is already set"
        )
    return result


def _step(
    optimization: Optimization, options: Any, claims: tuple[str, ...], pipeline: Pipeline, capabilities: frozenset[str]
) -> PlanStep:
    # A GPU in the machine is no help to a pipeline that runs on its CPU.
    usable = capabilities if pipeline.device == "cuda" else capabilities - {"cuda"}
    return PlanStep(
        name=optimization.name,
        phase=optimization.phase.name,
        options=json.loads(json.dumps(dataclasses.asdict(options))),
        claims=claims,
        division=optimization.division_of(pipeline.scope),
        emulated=not optimization.native(usable),
        score_tolerance=optimization.score_tolerance,
    )


def _options(optimization: Optimization, given: Any) -> Any:
    if isinstance(given, optimization.options):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise PlanError(f"opt.{optimization.name}: expected named options, got {given!r}")
    fields = {field.name: field for field in dataclasses.fields(optimization.options)}
    defaults = optimization.options()
    values: dict[str, Any] = {}
    for key, value in (given or {}).items():
        if key not in fields:
            raise PlanError(
                f"opt.{optimization.name}: there is no option {key!r}{_nearest(key, fields)}; it has: "
                f"{_list(fields) if fields else 'no options'}"
            )
        values[key] = _typed(f"opt.{optimization.name}.{key}", value, getattr(defaults, key))
    try:
        return optimization.options(**values)
    except ValueError as error:
        raise PlanError(f"opt.{optimization.name}: {error}") from error


def _typed(where: str, value: Any, default: Any) -> Any:
    """``value`` if it has the type of ``default`` (an int may stand for a float)."""
    wanted = type(default)
    if type(value) is wanted or default is None:
        return value
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    raise PlanError(f"{where} must be of type {wanted.__name__} (its default is {default!r}), got {value!r}")


def _nearest(name: str, choices: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _render(options: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in dataclasses.asdict(options).items()) or "none"
