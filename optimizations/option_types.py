"""Options of a plug-in as JSON, and the dataclass that they make elsewhere: types, names and defaults, but no code."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

PLAIN: Mapping[str, Any] = {"bool": bool, "int": int, "float": float, "str": str, "NoneType": type(None)}


def type_to_json(hint: Any) -> Any:
    """``int`` is "int", ``Literal["a", "b"]`` {"literal": ["a", "b"]}, ``int | None`` {"union": ["int", "NoneType"]},
    ``tuple[int, ...]`` {"tuple": ["int", "..."]}. ValueError for what an option cannot be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"literal": list(arguments)}
    if origin in (types.UnionType, typing.Union):
        return {"union": [type_to_json(argument) for argument in arguments]}
    if origin is tuple:
        return {"tuple": ["..." if argument is Ellipsis else type_to_json(argument) for argument in arguments]}
    if getattr(hint, "__name__", "") in PLAIN and PLAIN[hint.__name__] is hint:
        return hint.__name__
    raise ValueError(f"an option is of type {hint}; it may be one of {', '.join(PLAIN)}, Literal, a union or a tuple")


def type_from_json(data: Any) -> Any:
    """Inverse of ``type_to_json``. ValueError for anything else."""
    if isinstance(data, str) and data in PLAIN:
        return PLAIN[data]
    (kind, arguments), *more = data.items() if isinstance(data, Mapping) else ((None, None),)
    if more or kind not in ("literal", "union", "tuple") or not isinstance(arguments, Sequence):
        raise ValueError(f"{data!r} is no type of an option")
    if kind == "literal":
        if not all(isinstance(argument, (str, int, type(None))) for argument in arguments):
            raise ValueError(f"{data!r} is no type of an option")
        return operator.getitem(typing.cast(Any, Literal), tuple(arguments))
    found = tuple(Ellipsis if argument == "..." else type_from_json(argument) for argument in arguments)
    return functools.reduce(operator.or_, found) if kind == "union" else types.GenericAlias(tuple, found)


def fields_to_json(kind: type[Any]) -> list[dict[str, Any]]:
    """Name, type and default of each field of a dataclass. ValueError where one has no default, or no plain one."""
    hints, found = typing.get_type_hints(kind), []
    for item in dataclasses.fields(kind):
        made = item.default_factory
        default = made() if made is not dataclasses.MISSING else item.default
        try:
            text = json.dumps(default)
        except TypeError as error:
            raise ValueError(f"the option {item.name!r} has no default that JSON can hold") from error
        found.append({"name": item.name, "type": type_to_json(hints[item.name]), "default": json.loads(text)})
    return found


def options_class(name: str, fields: Sequence[Mapping[str, Any]], check: Callable[[dict[str, Any]], None]) -> type[Any]:
    """A frozen dataclass with these fields; ``check`` is given the values of each new object and raises ValueError."""

    def refuse_what_is_wrong(self: Any) -> None:
        check(dataclasses.asdict(self))

    made = [(item["name"], type_from_json(item["type"]), _default(item["default"])) for item in fields]
    return dataclasses.make_dataclass(
        name,
        [(field, hint, dataclasses.field(default=default)) for field, hint, default in made],
        frozen=True,
        kw_only=True,
        namespace={"__post_init__": refuse_what_is_wrong},
    )


def _default(value: Any) -> Any:
    return tuple(_default(item) for item in value) if isinstance(value, list) else value
