"""The last words of a system under test."""

from __future__ import annotations

import os
import sys
import threading
import traceback

from harness.transport.channel import Channel


class ErrorReport:
    """Sends the first exception of any thread to the main process and ends the process."""

    def __init__(self, control: Channel) -> None:
        self._control, self._once = control, threading.Lock()

    def __call__(self, error: BaseException) -> None:
        if not self._once.acquire(blocking=False):
            return
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(text)
        sys.stderr.flush()
        try:
            self._control.send({"error": text})
        finally:
            os._exit(1)
