"""A main process with a sender, a loaded SUT and a frozen one; prints their process ids and works until stopped."""

from __future__ import annotations

import numpy as np

from harness.measurement.referee import OpenLimits, Referee, ring_shape
from harness.traffic.arrivals import make_trace
from zoo.schema import Rows, Split


def main() -> None:
    count = 200
    split = Split(
        user=Rows.empty(count),
        item=Rows.empty(count),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(count + 1, np.int64),
        user_of=np.arange(count),
        labels=np.zeros(count, np.float32),
        groups=np.array([0, count]),
    )
    with Referee() as referee:
        for name in ("frozen", "loaded"):
            referee.start_side(name, {"kind": "null"}, ring_shape([split], 100))
        referee.freeze("frozen")
        pids = [*referee.pids("frozen"), *referee.pids("loaded"), referee.sender.group.pid]
        print(*pids, flush=True)
        trace = make_trace(1, 100_000, "fixed:4", split.groups)
        referee.run_open("loaded", split, trace, 100.0, OpenLimits(limit_ns=1_000_000))


if __name__ == "__main__":
    main()
