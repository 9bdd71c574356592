"""How a child of the main process begins: its command line, its end with its parent, its channel."""

from __future__ import annotations

import argparse
import socket

from harness.host.scheduling import die_with_parent, sharpen_timers
from harness.transport.channel import Channel


def channel_to_parent(prog: str) -> Channel:
    """The control channel named by ``--control FD --parent PID``; from here on the process ends with that parent."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    die_with_parent(options.parent)
    sharpen_timers()
    return Channel(socket.socket(fileno=options.control))
