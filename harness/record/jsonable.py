"""Frozen dataclasses to plain JSON values and back, by their type hints. Standard library only."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Mapping: "an object",
}


def to_plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences become dicts and lists; NaN and infinities become None.

    NumPy scalars become Python numbers. TypeError for anything that JSON does not know.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def from_plain(cls: type[T], data: Any) -> T:
    """Build the dataclass ``cls`` from its plain form. Unknown keys are ignored, missing ones are a ValueError."""
    problems = mismatches(cls, data)
    if problems:
        raise ValueError("; ".join(problems))
    built: T = _decode(cls, data)
    return built


def mismatches(cls: type[Any], data: Any, where: str = "") -> list[str]:
    """What keeps ``data`` from being a plain ``cls``: one sentence per missing key or wrong type, with its path."""
    if not isinstance(data, Mapping):
        return [f"{where or cls.__name__} is {_short(data)}, expected an object"]
    problems: list[str] = []
    hints = _hints(cls)
    for item in dataclasses.fields(cls):
        path = f"{where}.{item.name}" if where else item.name
        if item.name in data:
            problems += _mismatch(hints[item.name], data[item.name], path)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            problems.append(f"{path} is missing")
    return problems


def _mismatch(hint: Any, value: Any, path: str) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return []
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return []
        return _mismatch(_not_none(arguments), value, path)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path} is {_short(value)}, expected one of {', '.join(arguments)}"]
    if dataclasses.is_dataclass(hint):
        return mismatches(typing.cast(type[Any], hint), value, path)
    if origin is tuple:
        return _mismatch_items(arguments, value, path)
    expected = _python_types(origin or hint)
    is_flag = isinstance(value, bool) and bool not in expected
    if is_flag or not isinstance(value, expected):
        return [f"{path} is {_short(value)}, expected {_NAMES.get(expected[-1], expected[-1].__name__)}"]
    return []


def _mismatch_items(arguments: tuple[Any, ...], value: Any, path: str) -> list[str]:
    if not isinstance(value, (list, tuple)):
        return [f"{path} is {_short(value)}, expected a list"]
    if arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    elif len(arguments) != len(value):
        return [f"{path} has {len(value)} items, expected {len(arguments)}"]
    else:
        kinds = list(arguments)
    found = (_mismatch(kind, item, f"{path}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))
    return [problem for problems in found for problem in problems]


def _decode(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None or hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _decode(_not_none(arguments), value)
    if dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        known = {f.name for f in dataclasses.fields(hint)} & set(value)
        return typing.cast(type[Any], hint)(**{name: _decode(hints[name], value[name]) for name in known})
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_decode(kind, item) for kind, item in zip(kinds, value, strict=True))
    return float(value) if hint is float else value


def _hints(cls: Any) -> dict[str, Any]:
    return _hints_of(cls)


@functools.cache
def _hints_of(cls: Hashable) -> dict[str, Any]:
    """Types of the fields. A record holds hundreds of values of a few classes; to read the hints takes longest."""
    return typing.get_type_hints(cls)


def _not_none(arguments: tuple[Any, ...]) -> Any:
    (kind,) = (argument for argument in arguments if argument is not type(None))
    return kind


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _python_types(hint: Any) -> tuple[type, ...]:
    return (int, float) if hint is float else (hint,)
