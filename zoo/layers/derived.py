"""What a step derives from lengths, table rows and sizes: masks, orders, places. Such a result may be there before it.

A function marked ``derived`` is pure: its arguments, given by position, decide its result; it changes none of them and
nobody changes what it returned. Nothing here says whether a parameter decides what it is called with: that depends on
who calls it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class Source(Protocol):
    """Where results of derived functions come from."""

    def result(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """``function(*arguments)``, made now or before."""


_SOURCE: ContextVar[Source | None] = ContextVar("source", default=None)
"""Of the thread at hand; None: every result is made when it is asked for."""


def derived(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function as derived."""

    @functools.wraps(function)
    def found_or_made(*arguments: P.args, **named: P.kwargs) -> R:
        source = None if torch.compiler.is_compiling() else _SOURCE.get()
        if source is None or named:
            return function(*arguments, **named)
        found: R = source.result(function, arguments)
        return found

    return found_or_made


@contextlib.contextmanager
def derived_by(source: Source | None) -> Iterator[None]:
    """Within the block, this thread gets the results of derived functions from ``source``."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)
