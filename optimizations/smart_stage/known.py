"""Results of derived functions that were made before the step that asks for them, found by what it asks with.

A tensor is told by where and how it lies in memory. All tensors that a result is kept for are kept with it, so that no
other one can come to lie there; none of them changes. So what is found is what the call would have made, whoever
thought of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

Function = Callable[..., Any]


class Known:
    """The results of one step. Written by one thread, and only read from then on; ``Source`` of ``zoo.layers.derived``.

    made: the results in the order in which they were made. asked, missed: how often one was asked for, and not there.
    """

    def __init__(self) -> None:
        self.made: list[Any] = []
        self._results: dict[Any, Any] = {}
        self._kept: list[tuple[Any, ...]] = []
        self.asked = self.missed = 0

    def make(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """``function(*arguments)``, to be found from now on."""
        made = function(*arguments)
        self._results[function, located(arguments)] = made
        self._kept.append(arguments)
        self.made.append(made)
        return made

    def result(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """What was made of these arguments; what was not is made now, and not kept."""
        self.asked += 1
        key = (function, located(arguments))
        if key in self._results:
            return self._results[key]
        self.missed += 1
        return function(*arguments)


def located(value: Any) -> Any:
    """What tells a value from all others: of a tensor where it lies, its type, shape and strides."""
    if isinstance(value, Tensor):
        return value.data_ptr(), value.dtype, value.shape, value.stride()
    return tuple(map(located, value)) if isinstance(value, tuple) else value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples and lists, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)
