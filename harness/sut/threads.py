"""The threads of a system under test: they serve until the end of input, and the first error of any is reported."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

SWITCH_INTERVAL_S = 5e-5
"""Interpreter switch interval with several threads; the default of 5 ms would be in every tail."""


def run_threads(
    work: Callable[[int], None], count: int, failed: Callable[[BaseException], None], *, pipelined: bool = False
) -> None:
    """Run ``work(k)`` for k in 0 .. ``count`` - 1, the first on this thread, and return when all have ended.

    ``failed`` gets the exception that ended one of them. ``pipelined``: each of them has a second thread of its own.
    """
    if count > 1 or pipelined:
        sys.setswitchinterval(SWITCH_INTERVAL_S)

    def guarded(thread: int) -> None:
        try:
            work(thread)
        except Exception as error:
            failed(error)

    others = [threading.Thread(target=guarded, args=(k,), daemon=True) for k in range(1, count)]
    for thread in others:
        thread.start()
    guarded(0)
    for thread in others:
        thread.join()
