"""Options as JSON: what comes back is the same types, names and defaults, and no code."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizations.option_types import fields_to_json, options_class, type_from_json, type_to_json

plain = st.sampled_from([bool, int, float, str, Literal["a", "b"], int | None, tuple[str, ...], tuple[int, float]])


@given(hint=plain | st.builds(lambda each: each | None, plain) | st.builds(lambda each: tuple[each, ...], plain))
def test_a_type_comes_back(hint: Any) -> None:
    assert type_from_json(json.loads(json.dumps(type_to_json(hint)))) == hint


@pytest.mark.parametrize("hint", [dict[str, int], list[int], Any, object])
def test_other_types_are_refused(hint: Any) -> None:
    with pytest.raises(ValueError, match="an option is of type"):
        type_to_json(hint)


@pytest.mark.parametrize("data", ["object", "__import__", {"eval": ["1"]}, {"tuple": 1}, {"literal": [[1]]}, 3, None])
def test_nothing_else_is_taken_for_a_type(data: Any) -> None:
    with pytest.raises(ValueError, match="is no type of an option"):
        type_from_json(data)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    names: tuple[str, ...] = ("fc",)
    level: int | None = None
    nested: tuple[tuple[int, int], ...] = ((1, 2),)


def test_a_class_has_the_fields_and_checks_each_object() -> None:
    seen: list[dict[str, Any]] = []

    def check(values: dict[str, Any]) -> None:
        seen.append(values)
        if values["level"] == 0:
            raise ValueError("level must not be 0")

    made = options_class("Made", json.loads(json.dumps(fields_to_json(Options))), check)
    assert dataclasses.asdict(made()) == dataclasses.asdict(Options()) == seen[0]
    assert typing.get_type_hints(made) == typing.get_type_hints(Options)
    assert made(level=2) == made(level=2) != made()
    with pytest.raises(ValueError, match="level must not be 0"):
        made(level=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().level = 3


def test_a_default_that_no_json_holds_is_refused() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Odd:
        place: Any = dataclasses.field(default_factory=set)

    with pytest.raises(ValueError, match="'place' has no default"):
        fields_to_json(Odd)
