"""Options of a data set: from a plain mapping to a frozen dataclass, with errors that name the option."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

OptionsT = TypeVar("OptionsT")


def parse_options(name: str, options_type: type[OptionsT], given: Mapping[str, Any]) -> OptionsT:
    """Build ``options_type`` from ``given``; options that are not given keep their defaults.

    Raises ValueError for an option that data set ``name`` does not have, for a value of the wrong type, and
    whatever ``options_type.__post_init__`` refuses.
    """
    hints = typing.get_type_hints(options_type)
    known = [field.name for field in dataclasses.fields(typing.cast(Any, options_type))]
    for option, value in given.items():
        if option not in known:
            raise ValueError(
                f"dataset.{option} is not an option of dataset={name}{nearest(option, known)}: "
                f"use {', '.join(f'dataset.{each}' for each in known)}"
            )
        _check_type(name, option, value, hints[option])
    return options_type(**given)


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known word that is most like ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def require_counts(options: Any, at_least: Mapping[str, int]) -> None:
    """Raise ValueError for the first option of ``at_least`` that lies below its bound; None is "not given"."""
    for option, bound in at_least.items():
        value = getattr(options, option)
        if value is not None and value < bound:
            raise ValueError(f"dataset.{option}={value} is out of range: it must be at least {bound}")


def _check_type(name: str, option: str, value: Any, hint: Any) -> None:
    if _matches(value, hint):
        return
    raise ValueError(
        f"dataset.{option}={value!r} of dataset={name} has the wrong type or value: it must be {_describe(hint)}"
    )


def _matches(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_matches(value, each) for each in typing.get_args(hint))
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(each) for each in typing.get_args(hint))
    if isinstance(hint, types.UnionType):
        return " or ".join(_describe(each) for each in typing.get_args(hint))
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}[hint]
