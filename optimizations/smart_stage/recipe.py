"""Which derived results a step asks for, as a recipe that makes them from its input.

A recipe is read off steps that were watched: each argument is a tensor of the input or of an earlier result, the size
of one, or a constant, and has to be so in every one of them. It says what is worth making, and no more: that a result
is the right one is seen again whenever it is asked for (``known``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from optimizations.smart_stage.known import Function, Known, located, tensors_in


class Place(NamedTuple):
    """The ``tensor``-th tensor of the input, call -1, or of what the ``call``-th call of the recipe returned."""

    call: int
    tensor: int


class Size(NamedTuple):
    """How many elements the tensor at ``place`` has along ``axis``."""

    place: Place
    axis: int


class Constant(NamedTuple):
    """The same in every step."""

    value: Any


class Several(NamedTuple):
    """A tuple of arguments."""

    each: tuple[Any, ...]


class Call(NamedTuple):
    """One result to be made."""

    function: Function
    arguments: tuple[Any, ...]


@dataclass(slots=True)
class Seen:
    """A call that was watched: what it was given, what it made of it with so many operators, and the calls within it.

    impure: it read what a parameter decides. call: the number of the recipe's call that makes the same, if one does.
    """

    function: Function
    arguments: tuple[Any, ...]
    result: Any = None
    operators: int = 0
    impure: bool = False
    call: int | None = None
    inner: list[Seen] = field(default_factory=list)


@dataclass(slots=True)
class Watched:
    """All calls of one step, outermost ones in order; ``Source`` of ``zoo.layers.derived``.

    counts: so far, of the operators within calls, those that depend on no parameter, and those that do. done: is told
    of every call that has ended.
    """

    counts: Callable[[], tuple[int, int]]
    done: Callable[[Seen], None]
    calls: list[Seen] = field(default_factory=list)
    _open: list[Seen] = field(default_factory=list)

    @property
    def inside(self) -> bool:
        """Whether a call is on its way."""
        return bool(self._open)

    def result(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """``function(*arguments)``."""
        seen, (free, impure) = Seen(function, arguments), self.counts()
        (self._open[-1].inner if self._open else self.calls).append(seen)
        self._open.append(seen)
        try:
            seen.result = function(*arguments)
        finally:
            self._open.pop()
        free_after, impure_after = self.counts()
        seen.operators, seen.impure = free_after - free, impure_after > impure
        self.done(seen)
        return seen.result


class Recipe(NamedTuple):
    """Results to be made, in an order in which each finds what it needs."""

    calls: tuple[Call, ...]

    def make(self, given: Any) -> Known:
        """The results for the input ``given``, nested tuples of tensors."""
        known, results = Known(), [tuple(tensors_in(given))]
        for call in self.calls:
            arguments = tuple(_value(argument, results) for argument in call.arguments)
            results.append(tuple(tensors_in(known.make(call.function, arguments))))
        return known


def _value(argument: Any, results: Sequence[tuple[Tensor, ...]]) -> Any:
    match argument:
        case Place(call, tensor):
            return results[call + 1][tensor]
        case Size(place, axis):
            return _value(place, results).shape[axis]
        case Several(each):
            return tuple(_value(one, results) for one in each)
        case Constant(value):
            return value
    raise TypeError(f"a recipe holds no {argument!r}")


def find_recipe(givens: Sequence[Any], steps: Sequence[Iterable[Seen]]) -> Recipe:
    """The calls that all watched ``steps`` made in the same way of their inputs ``givens``, outermost ones first; in
    what was watched they are marked."""
    return Recipe(tuple(_Finder(givens).found(steps)))


class _Finder:
    """What is known of tensors that were met: by step, the places where each lies."""

    def __init__(self, givens: Sequence[Any]) -> None:
        self._places: list[dict[Any, list[Place]]] = [{} for _ in givens]
        self._tensors: list[dict[Place, Tensor]] = [{} for _ in givens]
        self._calls: list[Call] = []
        self._learn(-1, givens)

    def found(self, steps: Sequence[Iterable[Seen]]) -> list[Call]:
        """Every call whose arguments could be told; of one whose could not, those within it."""
        for seen in zip(*steps, strict=False):
            if len({each.function for each in seen}) > 1:
                break  # from here on these steps went different ways
            arguments = None if any(each.impure for each in seen) else self._told([each.arguments for each in seen])
            if arguments is None:
                self.found([each.inner for each in seen])
                continue
            call = Call(seen[0].function, arguments)
            if call not in self._calls:
                self._calls.append(call)
            number = self._calls.index(call)
            for each in seen:
                each.call = number
            self._learn(number, [each.result for each in seen])
        return self._calls

    def _learn(self, call: int, results: Sequence[Any]) -> None:
        for places, tensors, result in zip(self._places, self._tensors, results, strict=True):
            for number, tensor in enumerate(tensors_in(result)):
                places.setdefault(located(tensor), []).append(Place(call, number))
                tensors[Place(call, number)] = tensor

    def _told(self, arguments: Sequence[tuple[Any, ...]]) -> tuple[Any, ...] | None:
        """Where each of them comes from; None if one does not come from anywhere."""
        if len({len(each) for each in arguments}) > 1:
            return None
        told = [next(self._sources(values), None) for values in zip(*arguments, strict=True)]
        return None if None in told else tuple(told)

    def _sources(self, values: tuple[Any, ...]) -> Iterator[Any]:
        if all(isinstance(value, Tensor) for value in values):
            common = [places.get(located(value), []) for places, value in zip(self._places, values, strict=True)]
            yield from (place for place in common[0] if all(place in own for own in common))
        elif all(isinstance(value, tuple) for value in values):
            each = self._told(values)
            if each is not None:
                yield Several(each)
        elif len({repr(value) for value in values}) == 1:
            yield Constant(values[0])
        elif all(isinstance(value, int) for value in values):
            yield from self._sizes(values)

    def _sizes(self, values: tuple[int, ...]) -> Iterator[Size]:
        for place, tensor in self._tensors[0].items():
            for axis in range(tensor.dim()):
                sizes = (own[place].shape[axis] if place in own else -1 for own in self._tensors)
                if tuple(sizes) == values:
                    yield Size(place, axis)
