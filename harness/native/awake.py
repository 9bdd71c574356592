"""``awake.cpp`` as a process: ``python -m harness.native.awake --parent PID --cores 0 1``. It ends with that parent.

It says "awake" on stdout as soon as nothing but its own loop is left, and ends with a message on stderr where the
system refuses it a priority below everybody else's.
"""

from __future__ import annotations

import argparse
import os
import sys
from ctypes import c_int64
from pathlib import Path

from harness.host.scheduling import die_with_parent
from harness.native.library import native_library

READY = "awake"
LEAST_WEIGHT = "19"
"""Niceness of the session. The kernel shares a core among sessions first (sched(7), autogroups): in one of its own even
a thread of the idle class gets half of it from a session of normal niceness."""


def main() -> None:
    """Keep the cores awake until the parent ends or kills this process."""
    parser = argparse.ArgumentParser(prog="python -m harness.native.awake")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--cores", type=int, nargs="+", required=True)
    given = parser.parse_args()
    die_with_parent(given.parent)
    library, session = native_library(), Path("/proc/self/autogroup")
    if library is None or os.getsid(0) != os.getpid():
        sys.exit("no compiler, or no session of its own")
    try:
        if session.exists():
            session.write_text(LEAST_WEIGHT)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        sys.exit(f"the system refuses a lower priority: {error}")
    cores = (c_int64 * len(given.cores))(*given.cores)
    print(READY, flush=True)
    library.keep_awake(cores, c_int64(len(cores)))
    sys.exit("none of the cores may be used")


if __name__ == "__main__":
    main()
