"""Which tensors of a running step depend on a parameter: followed through every operator and every native call.

What depends on nothing but the inputs is *free*. Memory is followed, not tensors, so that views and what is written in
place need no rules of their own. All that is not known to be free counts as depending on a parameter: parameters,
buffers, constants of modules, what a generator drew, memory that nothing has written yet.
"""

from __future__ import annotations

import bisect
import ctypes
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE, UNWRITTEN, DEPENDENT = "free", "unwritten", "dependent"
UNKNOWN = 1
"""An address that is none of any tensor's."""


class Dependencies(TorchDispatchMode):
    """Follows the operators of this thread, backward ones too, and the ``native`` functions, while it is entered.

    inputs: tensors that are free, and that nobody writes. inside: whether a derived function is being computed.
    moved, left: by name, the free operators inside of derived functions, and outside of them; views, and what reads no
    tensor, are not counted. impure: those inside that depend on a parameter.
    """

    def __init__(self, inputs: Iterable[Tensor], native: Iterable[Any], inside: Callable[[], bool]) -> None:
        super().__init__()
        self.moved, self.left, self.impure = Counter[str](), Counter[str](), Counter[str]()
        self._native, self._inside = list(native), inside
        self._memory = _Memory()
        for each in inputs:
            self._memory.put(each, FREE)
            self.hold(each)

    def __enter__(self) -> Dependencies:
        for function in self._native:
            function.errcheck = self._called
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for function in self._native:
            del function.errcheck

    def hold(self, tensor: Tensor) -> None:
        """Nobody writes this one: a native call that has its address reads it."""
        self._memory.held.add(_number(tensor))

    def is_free(self, tensor: Tensor) -> bool:
        """Whether no parameter decides what it holds."""
        return self._memory.state(tensor) == FREE

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and follow what it read into what it wrote."""
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        given, written = _tensors((args, kwargs)), _tensors(list(_written(function, args, kwargs)))
        unread = {_number(each) for each in written if self._memory.state(each) == UNWRITTEN}
        read = [each for each in given if _number(each) not in unread]
        free = torch.Tag.nondeterministic_seeded not in function.tags and all(map(self.is_free, read))
        shared = {_number(each) for each in given}
        made = [each for each in _tensors(found) if not self._memory.knows(each) and _number(each) not in shared]
        name = function.overloadpacket.__name__
        for each in written:
            self._memory.put(each, FREE if free else DEPENDENT)
        for each in made:
            self._memory.put(each, DEPENDENT if not free else UNWRITTEN if "empty" in name else FREE)
        if read and (written or made) and "empty" not in name:
            self._count(name, free)
        return found

    def _called(self, result: Any, function: Any, arguments: tuple[Any, ...]) -> Any:
        """A native call: what it has the address of, and does not belong to the inputs, it may have written."""
        addresses = {found for pair in zip(function.argtypes, arguments, strict=True) for found in _addresses(*pair)}
        numbers = {self._memory.at(address) for address in addresses}
        free = None not in numbers and all(self._memory.states[number] != DEPENDENT for number in numbers)
        for number in numbers - self._memory.held - {None}:
            self._memory.states[number] = FREE if free else DEPENDENT
        if numbers:
            self._count(function.__name__, free)
        return result

    def _count(self, name: str, free: bool) -> None:
        if self._inside():
            (self.moved if free else self.impure)[name] += 1
        elif free:
            self.left[name] += 1


class _Memory:
    """States of the memory of all tensors that were met; it is kept, so that no address and no number comes twice."""

    def __init__(self) -> None:
        self.states: dict[Any, str] = {}
        self.held: set[Any] = set()
        self._kept: list[Tensor] = []
        self._spans: list[tuple[int, int, int]] = []

    def knows(self, tensor: Tensor) -> bool:
        return _number(tensor) in self.states

    def state(self, tensor: Tensor) -> str:
        return self.states.get(_number(tensor), DEPENDENT)

    def put(self, tensor: Tensor, state: str) -> None:
        number = _number(tensor)
        if number not in self.states:
            self._kept.append(tensor)
            storage = tensor.untyped_storage()
            if storage.nbytes():
                bisect.insort(self._spans, (storage.data_ptr(), storage.data_ptr() + storage.nbytes(), number))
        self.states[number] = state

    def at(self, address: int) -> int | None:
        """The number of the memory that holds ``address``; None for what no tensor does."""
        place = bisect.bisect_right(self._spans, (address, 2**64, 0)) - 1
        if place < 0 or address >= self._spans[place][1]:
            return None
        return self._spans[place][2]


def _number(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[Tensor]:
    """Those that have memory of their own or share another one's; a sparse one is made of such."""
    found = [each for each in tree_leaves(value) if isinstance(each, Tensor)]
    return [part for each in found for part in (_parts(each) if each.is_sparse else (each,))]


def _parts(sparse: Tensor) -> tuple[Tensor, Tensor]:
    return sparse._indices(), sparse._values()


def _written(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """The arguments that an operator says it writes."""
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield args[place] if place < len(args) else kwargs.get(argument.name)


def _addresses(kind: Any, value: Any) -> Iterator[int]:
    """The addresses in one argument of a native call; ``UNKNOWN`` for what cannot be followed."""
    if kind is ctypes.c_void_p:
        address = value.value if isinstance(value, ctypes.c_void_p) else value
        if address:
            yield address if isinstance(address, int) else UNKNOWN
    elif issubclass(kind, ctypes._Pointer) and value is not None:
        target = getattr(value, "_obj", value)
        if isinstance(target, ctypes._Pointer):
            yield UNKNOWN
        else:
            yield from _addresses_within(target)


def _addresses_within(value: Any) -> Iterator[int]:
    if isinstance(value, ctypes.Array):
        for each in value:
            yield from _addresses_within(each)
    elif isinstance(value, ctypes.Structure):
        for name, kind, *_ in value._fields_:
            own = getattr(value, name)
            if kind is ctypes.c_void_p:
                yield from _addresses(kind, own)
            elif issubclass(kind, ctypes._Pointer):
                if own:
                    yield UNKNOWN
            else:
                yield from _addresses_within(own)
