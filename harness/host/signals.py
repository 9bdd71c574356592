"""SIGTERM as the interrupt that Ctrl-C raises, so that there is one way out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminate_interrupts() -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt. Outside of the main thread nothing changes: the kernel kills the
    children of a process that SIGTERM ends."""
    try:
        before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, _interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
