"""Recipes of derived results: what is read off watched steps, and what is made by it for another input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optimizations.smart_stage.known import Known
from optimizations.smart_stage.recipe import Constant, Place, Recipe, Several, Size, Watched, find_recipe
from zoo.layers.derived import derived, derived_by


class Input(NamedTuple):
    """As an input of a step: tensors, one of them perhaps missing, one deeper down."""

    lengths: Tensor
    rows: tuple[Tensor, Tensor | None]


@derived
def mask(lengths: Tensor, steps: int) -> Tensor:
    return torch.arange(steps) < lengths.unsqueeze(1)


@derived
def split(rows: Tensor, bags: int) -> list[tuple[Tensor, int]]:
    return [(rows[k::bags], k) for k in range(bags)]


@derived
def total(parts: tuple[Tensor, ...]) -> int:
    return int(torch.cat(parts).sum())


@derived
def nested(lengths: Tensor, steps: int) -> Tensor:
    return mask(lengths, steps).nonzero()


def an_input(lengths: list[int], width: int) -> Input:
    return Input(torch.tensor(lengths), (torch.arange(len(lengths) * width).view(-1, width), None))


def step(own: Input, weight: Tensor) -> list[Any]:
    """A step: the vectors have as many steps as the rows have columns, and values that a parameter decides."""
    vectors = own.rows[0] * weight
    found = mask(own.lengths, vectors.shape[1])
    parts = [each for each, _ in split(own.rows[0], 2)]
    return [found, parts, total(tuple(part.flatten() for part in parts)), total((own.lengths, own.lengths))]


def watch(run: Callable[[Input, Tensor], Any], own: Input, impure: Callable[[], int] = lambda: 0) -> Watched:
    watched = Watched(lambda: (0, impure()), lambda seen: None)
    with derived_by(watched):
        run(own, torch.full((), 0.5))
    return watched


INPUTS = [an_input([1, 2], 3), an_input([0, 1, 2, 2], 5), an_input([4], 4)]


def recipe_of(run: Callable[[Input, Tensor], Any]) -> Recipe:
    return find_recipe(INPUTS, [watch(run, own).calls for own in INPUTS])


def test_arguments_are_told_by_where_they_come_from() -> None:
    calls = recipe_of(step).calls
    names = [(call.function.__name__, call.arguments) for call in calls]
    assert names[0] == ("mask", (Place(-1, 0), Size(Place(-1, 1), 1)))
    assert names[1] == ("split", (Place(-1, 1), Constant(2)))
    # flattened parts are no tensors of anybody's: that total cannot be made ahead, the other one can
    assert names[2:] == [("total", (Several((Place(-1, 0), Place(-1, 0))),))]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 9), st.floats(-2, 2))
def test_what_is_made_ahead_is_what_the_step_asks_for(lengths: list[int], width: int, weight: float) -> None:
    own = an_input(lengths, width)
    known = recipe_of(step).make(own)
    plain = step(own, torch.tensor(weight))
    with derived_by(known):
        found = step(own, torch.tensor(weight))
    assert (known.asked, known.missed) == (4, 1)
    assert torch.equal(plain[0], found[0]) and plain[2:] == found[2:]
    assert all(torch.equal(one, other) for one, other in zip(plain[1], found[1], strict=True))


def test_of_a_call_that_cannot_be_made_ahead_those_within_it_are() -> None:
    def run(own: Input, weight: Tensor) -> None:
        nested(own.lengths, own.rows[0].shape[1])

    impurities = [0]

    def watched(own: Input) -> Watched:
        found = Watched(lambda: (0, impurities[0]), lambda seen: None)
        inner, outer = mask, nested

        @derived
        def reads_a_parameter(lengths: Tensor, steps: int) -> Tensor:
            made = inner(lengths, steps)
            impurities[0] += 1
            return made

        with derived_by(found):
            reads_a_parameter(own.lengths, own.rows[0].shape[1])
            outer(own.lengths, own.rows[0].shape[1])
        return found

    assert [call.function.__name__ for call in recipe_of(run).calls] == ["nested"]
    steps = [watched(own).calls for own in INPUTS]
    for each in steps:  # one function for all of them, as in a program
        each[0].function = steps[0][0].function
    assert [call.function.__name__ for call in find_recipe(INPUTS, steps).calls] == ["mask", "nested"]


def test_steps_that_go_different_ways_share_what_came_before() -> None:
    def run(own: Input, weight: Tensor) -> None:
        mask(own.lengths, own.rows[0].shape[1])
        if len(own.lengths) > 1:
            split(own.rows[0], 2)
        total((own.lengths,))

    assert [call.function.__name__ for call in recipe_of(run).calls] == ["mask"]


def test_a_number_that_nothing_explains_is_not_guessed() -> None:
    def run(own: Input, weight: Tensor) -> None:
        mask(own.lengths, own.rows[0].shape[1] + 1)
        mask(own.lengths, 7)

    assert [call.arguments for call in recipe_of(run).calls] == [(Place(-1, 0), Constant(7))]


def test_equal_tensors_are_not_the_same_tensor() -> None:
    lengths = torch.tensor([1, 2])
    known, other = Known(), lengths.clone()
    made = known.make(mask, (lengths, 3))
    assert known.result(mask, (lengths, 3)) is made
    assert known.result(mask, (lengths.view(2), 3)) is made  # the same memory seen in the same way
    for asked in ((other, 3), (lengths, 4), (lengths[:1], 3)):
        assert known.result(mask, asked) is not made
    assert (known.asked, known.missed) == (5, 3)


def test_results_keep_what_they_were_made_of() -> None:
    """Else the memory of a tensor that is gone could hold another one, which would be taken for it."""
    known = Known()
    for _ in range(50):
        known.make(mask, (torch.arange(1000), 3))
    for _ in range(50):
        known.result(mask, (torch.zeros(1000, dtype=torch.int64), 3))
    assert known.missed == known.asked == 50


def test_another_thread_has_no_source() -> None:
    import threading

    known, seen = Known(), []
    with derived_by(known):
        worker = threading.Thread(target=lambda: seen.append(mask(torch.tensor([1]), 2)))
        worker.start()
        worker.join()
        mask(torch.tensor([1]), 2)
    mask(torch.tensor([1]), 2)
    assert known.asked == 1 and len(seen) == 1
