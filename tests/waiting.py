"""Waiting in a test for what a process does in its own time, however busy the machine is."""

from __future__ import annotations

from collections.abc import Callable

from harness.clock import sleep_s


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return once ``condition`` holds; AssertionError where it does not within about so many seconds."""
    for _ in range(int(100 * seconds)):
        if condition():
            return
        sleep_s(0.01)
    raise AssertionError(f"it did not happen within {seconds:g} s")
