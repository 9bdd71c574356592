"""What depends on a parameter, followed through operators whose answer is known by looking at them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from optimizations.smart_stage.dependencies import Dependencies

Run = Callable[[Tensor, Tensor], Tensor]

FREE: dict[str, Run] = {
    "computed": lambda x, w: (x + 1).cumsum(0),
    "view": lambda x, w: x.view(2, 3).t()[0],
    "of no tensor": lambda x, w: torch.arange(5) * 2,
    "written into fresh memory": lambda x, w: torch.add(x, x, out=torch.empty(6)),
    "copied into fresh memory": lambda x, w: torch.empty(6).copy_(x),
    "indexed": lambda x, w: x[(x > 2).nonzero(as_tuple=True)],
    "the rows of a sparse tensor": lambda x, w: torch.sparse_coo_tensor(
        x.long().unsqueeze(0), w.detach(), (9,), check_invariants=False
    )._indices(),
}
DEPENDENT: dict[str, Run] = {
    "parameter": lambda x, w: w,
    "computed": lambda x, w: x * w,
    "view of it": lambda x, w: (x * w)[1:3],
    "written in place": lambda x, w: (x + 0).add_(w.detach()),
    "written through a view": lambda x, w: _through_a_view(x, w),
    "drawn": lambda x, w: torch.rand_like(x),
    "unwritten": lambda x, w: torch.empty(6) + x,
    "zeros in its likeness": lambda x, w: torch.zeros_like(w),
    "its gradient": lambda x, w: torch.autograd.grad((x * w).square().sum(), w)[0],
    "an unknown constant": lambda x, w: CONSTANT + 1,
}
CONSTANT = torch.ones(3)


def _through_a_view(x: Tensor, w: Tensor) -> Tensor:
    whole = x + 0
    whole[:2].copy_(w.detach()[:2])
    return whole[2:]


def traced(run: Run, native: list[object] | None = None) -> tuple[Dependencies, Tensor]:
    x, w = torch.arange(6.0), nn.Parameter(torch.ones(6))
    dependencies = Dependencies([x], native or [], lambda: False)
    with dependencies:
        found = run(x, w)
    return dependencies, found


@pytest.mark.parametrize("what", list(FREE))
def test_what_no_parameter_decides_is_free(what: str) -> None:
    dependencies, found = traced(FREE[what])
    assert dependencies.is_free(found)


@pytest.mark.parametrize("what", list(DEPENDENT))
def test_everything_else_depends_on_one(what: str) -> None:
    dependencies, found = traced(DEPENDENT[what])
    assert not dependencies.is_free(found)


def test_the_gradient_of_a_product_leaves_the_other_factor_free() -> None:
    def run(x: Tensor, w: Tensor) -> Tensor:
        doubled = x * 2
        (doubled * w).sum().backward()
        return doubled

    dependencies, found = traced(run)
    assert dependencies.is_free(found)


def test_operators_are_counted_where_they_work() -> None:
    inside = [False]
    x, w = torch.arange(6.0), nn.Parameter(torch.ones(6))
    dependencies = Dependencies([x], [], lambda: inside[0])
    with dependencies:
        y = (x + 1).view(2, 3)  # a view is no work
        inside[0] = True
        y.sum() * 1
        y * w.view(2, 3)
        inside[0] = False
        torch.zeros(3)  # reads nothing
        (y * w.view(2, 3)).exp()
    assert (dict(dependencies.left), dict(dependencies.moved), dict(dependencies.impure)) == (
        {"add": 1},
        {"sum": 1, "mul": 1},
        {"mul": 1},
    )


class Addresses(ctypes.Structure):
    """What a native call may be given: two places and a number."""

    _fields_ = [("source", ctypes.c_void_p), ("target", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


class TestNative:
    """Calls of the C library stand for kernels: it copies, and the tracer knows no more than their addresses."""

    def copy(self) -> object:
        function = ctypes.CDLL(None).memcpy
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        function.restype = ctypes.c_void_p
        return function

    def run(self, source: Callable[[Tensor, Tensor], Tensor], hidden: bool = False) -> bool:
        copy = self.copy()

        def call(x: Tensor, w: Tensor) -> Tensor:
            given, out = source(x, w), torch.empty(6)
            other = ctypes.create_string_buffer(24)
            copy(out.data_ptr(), ctypes.addressof(other) if hidden else given.data_ptr() + 4, 20)  # type: ignore[operator]
            return out

        dependencies, found = traced(call, [copy])
        return dependencies.is_free(found)

    def test_what_is_written_from_inputs_is_free(self) -> None:
        assert self.run(lambda x, w: x) and self.run(lambda x, w: x * 2)

    def test_what_is_written_from_parameters_or_from_nobody_knows_where_is_not(self) -> None:
        assert not self.run(lambda x, w: w) and not self.run(lambda x, w: x * w)
        assert not self.run(lambda x, w: x, hidden=True)

    def test_a_call_that_is_not_followed_leaves_memory_unwritten(self) -> None:
        copy = self.copy()

        def call(x: Tensor, w: Tensor) -> Tensor:
            out = torch.empty(6)
            copy(out.data_ptr(), w.data_ptr(), 24)  # type: ignore[operator]
            return out + 1

        dependencies, found = traced(call)
        assert not dependencies.is_free(found)

    def test_the_inputs_stay_free_and_other_memory_does_not(self) -> None:
        copy, seen = self.copy(), {}

        def call(x: Tensor, w: Tensor) -> Tensor:
            seen["own"] = x + 1
            held = x + 2
            dependencies.hold(held)
            for each in (x, seen["own"], held):  # for all that the tracer can tell, these are written
                copy(torch.empty(6).data_ptr(), each.data_ptr(), 24)  # type: ignore[operator]
                copy(each.data_ptr(), w.data_ptr(), 0)  # type: ignore[operator]
            return held

        x, w = torch.arange(6.0), nn.Parameter(torch.ones(6))
        dependencies = Dependencies([x], [copy], lambda: False)
        with dependencies:
            held = call(x, w)
        assert dependencies.is_free(x) and dependencies.is_free(held) and not dependencies.is_free(seen["own"])

    def test_structures_are_looked_into(self) -> None:
        x, w = torch.arange(6.0), nn.Parameter(torch.ones(6))

        @ctypes.CFUNCTYPE(None, ctypes.POINTER(Addresses), ctypes.c_int64)
        def kernel(given: object, count: int) -> None: ...

        function = kernel
        function.argtypes = [ctypes.POINTER(Addresses), ctypes.c_int64]  # type: ignore[attr-defined]
        function.__name__ = "kernel"  # as a library's functions have it
        states = []
        for source in (x, w):
            dependencies = Dependencies([x], [function], lambda: False)
            with dependencies:
                out = torch.empty(6)
                one = Addresses(source.data_ptr(), out.data_ptr(), 24)
                function(ctypes.byref(one), 1)
                several = (Addresses * 2)(one, one)
                function(several, 2)
            states.append(dependencies.is_free(out))
        assert states == [True, False]
