"""Scenario mlperf_server: MLPerf LoadGen offers one rate to each side, beside our own sender at the same rate.

LoadGen answers "valid or not at this rate", no LBT: its search for a rate and its pass test take queries for
independent. What is compared are late fractions, segment by segment, in the record's own columns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from harness.estimate.replay import THAW_NS
from harness.measurement.bench import Bench, Stretch, trace_seed
from harness.measurement.side import Side
from harness.traffic.loadgen import LOG_FILES, LoadGenPlan

SCENARIO = "mlperf_server"
PURPOSE = "loadgen"
LIBRARY = 1024
"""Queries among which LoadGen draws: a trace of the trial's mix of sizes."""
SEEDS = 1 << 63


def loadgen_runs(bench: Bench, sides: list[Side]) -> dict[str, bytes]:
    """One LoadGen test per side; returns its logs by the name that they get in the record."""
    logs: dict[str, bytes] = {}
    seconds = bench.budget.settle_s + bench.budget.latency_s
    bench.observer.stage(f"MLPerf LoadGen at {bench.trial.rate_qps:g} qps", total=len(sides) * seconds)
    for side in sides:
        logs |= _run(bench, side, seconds)
    return logs


def _run(bench: Bench, side: Side, seconds: float) -> dict[str, bytes]:
    trial = bench.trial
    bench.wake(side.name)
    library = bench.trace(PURPOSE, 0, LIBRARY).queries(bench.split.groups)
    with tempfile.TemporaryDirectory(prefix="recarena-loadgen-") as folder:
        plan = LoadGenPlan(
            rate_qps=trial.rate_qps,
            seconds=seconds,
            limit_ns=bench.limit_ns,
            percentile=trial.sla.percentile,
            seed=trace_seed(trial.seed, PURPOSE, 0) % SEEDS,
            folder=folder,
        )
        segment, queries = bench.referee.run_loadgen(side.name, bench.split, library, plan)
        logs = {f"{side.name}_{name}": (Path(folder) / name).read_bytes() for name in LOG_FILES}
    start_ns = int(segment.planned_ns[0])
    stretch = Stretch(purpose=PURPOSE, index=0, rate_qps=trial.rate_qps, seconds=seconds)
    bench.take(segment, queries, stretch, (start_ns + int(THAW_NS), int(segment.planned_ns[-1]) + 1))
    late = float(np.mean(segment.late(bench.limit_ns)))
    bench.observer.advance(seconds, f"{side.name}: {100 * late:.2f} % of {len(segment)} queries late")
    return logs
