"""A training under test that goes wrong as its spec says: ``python -m tests.rejects.misbehaving_training``."""

from __future__ import annotations

import os
import sys

from harness.clock import sleep_s
from harness.host.child import channel_to_parent


def main() -> None:
    """Answer orders with 7 samples each, until it is time to misbehave."""
    control = channel_to_parent("misbehaving_training")
    order, _ = control.receive()
    fault = order["spec"]["fault"]
    if fault == "unbuilt":
        control.send({"error": "Traceback: the layer has no such weight"})
        sys.exit(1)
    control.send({"ready": {"plan": [], "threads": 1, "samples": 7}})
    while True:
        told, _ = control.receive()
        if told["command"] == fault == "train":
            control.send({"error": "Traceback: index 7 is out of bounds"})
            sys.exit(1)
        if told["command"] == fault == "read":
            os._exit(3)
        if told["command"] == fault == "hold":
            sleep_s(60.0)
        control.send({"samples": 7})


if __name__ == "__main__":
    main()
