"""``awake.cpp`` as a process: ``python -m harness.native.awake --parent PID --flight FD --cores 0 1``.

It ends with that parent. FD: the memory of a ``harness.transport.flight.Flight``.

It says "awake" on stdout as soon as nothing but its own loop is left, and ends with a message on stderr where the
system refuses it a priority below everybody else's.
"""

from __future__ import annotations

import argparse
import os
import sys
from ctypes import byref, c_double, c_int64

from harness.host.scheduling import die_with_parent
from harness.native.library import native_library
from harness.transport.flight import Flight

READY = "awake"
REST = 0.04
"""Share of time in which a core may halt. Hypervisors grant whole cores less what their own work costs: without a rest
two cores lost 100 ms every 4 s, with 1 % some, with 3 % none; what systems use comes on top of the loop's time."""


def main() -> None:
    """Keep the cores awake until the parent ends or kills this process."""
    parser = argparse.ArgumentParser(prog="python -m harness.native.awake")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--flight", type=int, required=True)
    parser.add_argument("--cores", type=int, nargs="+", required=True)
    given = parser.parse_args()
    die_with_parent(given.parent)
    library = native_library()
    if library is None:
        sys.exit("no compiler")
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        sys.exit(f"the system refuses a lower priority: {error}")
    cores, flight = (c_int64 * len(given.cores))(*given.cores), Flight(given.flight)
    in_flight = c_int64.from_buffer(flight.memory)
    print(READY, flush=True)
    library.keep_awake(cores, c_int64(len(cores)), c_double(REST), byref(in_flight))
    sys.exit("none of the cores may be used")


if __name__ == "__main__":
    main()
