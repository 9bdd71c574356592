"""Load of a known queue in real processes whose wall clock jumps; prints what was seen as one line of JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from harness.clock import unix_s
from harness.measurement.referee import OpenLimits, Referee, ring_shape
from harness.traffic.arrivals import make_trace, sweep
from zoo.schema import Rows, Split

SERVICE_MS, QUERIES, RATE_QPS = 2.0, 150, 100.0


def main() -> None:
    split = Split(
        user=Rows.empty(200),
        item=Rows.empty(200),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(201, np.int64),
        user_of=np.arange(200),
        labels=np.zeros(200, np.float32),
        groups=np.array([0, 200]),
    )
    trace = make_trace(1, QUERIES, "fixed:4", split.groups)
    with Referee() as referee:
        service = {"law": "fixed", "mean_ms": SERVICE_MS}
        info = referee.start_side("sut", {"kind": "synthetic", "service": service}, ring_shape([split], 100))
        processes = (os.getpid(), referee.sender.group.pid, *referee.pids("sut"))
        preloaded = ["stepping_clock" in Path(f"/proc/{pid}/maps").read_text() for pid in processes]
        referee.freeze("sut")
        referee.thaw("sut")
        open_ = referee.run_open("sut", split, trace, RATE_QPS, OpenLimits(limit_ns=3_000_000_000))
        closed = referee.run_closed("sut", split, sweep(split, 10), 2)
    seen = {
        "preloaded": preloaded,
        "start_s": info.start_s,
        "wall_steps_s": np.diff([unix_s() for _ in range(9)]).tolist(),
        "status": [*open_.status.tolist(), *closed.status.tolist()],
        "stamps": [
            [segment.planned_ns.tolist(), segment.sent_ns.tolist(), segment.done_ns.tolist()]
            for segment in (open_, closed)
        ],
        "planned_as_traced": bool((np.diff(open_.planned_ns) == np.diff(trace.planned_ns(RATE_QPS))).all()),
        "aborted": [open_.aborted, closed.aborted],
    }
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
