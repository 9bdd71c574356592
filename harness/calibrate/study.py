"""One simulated comparison from the first probe to the ratio."""

from __future__ import annotations

import math
from typing import Any

from harness.calibrate.cells import Cell
from harness.calibrate.simulated import SimulatedBench
from harness.clock import now_ns
from harness.estimate.comparison import lbt_ratio
from harness.estimate.lbt import LbtEstimate
from harness.measurement.bench import Quad
from harness.measurement.quads import abba_order
from harness.measurement.rates import prepare_quad, refine, search_rate
from harness.measurement.side import Side
from harness.options import BUDGETS
from harness.sut.process import SideInfo
from optimizations.contract import Dispatch

BOTH = ("baseline", "candidate")


def compare_once(cell: Cell, budget: str, seed: int) -> dict[str, Any]:
    """Search, quads and estimates of both sides; a flat JSON object."""
    bench = SimulatedBench(
        cell=cell, budget=BUDGETS[budget], seed=seed, gains={"baseline": 1.0, "candidate": cell.gain}
    )
    sides = [_side_of(name, cell, bench) for name in BOTH]
    for side in sides:
        search_rate(bench, side)
    for quad in (Quad(number=number, place=number) for number in range(int(bench.budget.quads))):
        prepare_quad(bench, sides, quad)
        for side, half in abba_order(sides, quad.place):
            if side.centre_qps > 0.0:
                refine(bench, side, quad, half)
    start = now_ns()
    estimates = {side.name: side.estimate(bench) for side in sides}
    found = {name: _side(estimate) for name, estimate in estimates.items()}
    baseline, candidate = estimates["baseline"], estimates["candidate"]
    ratio = None
    if baseline and candidate and baseline.lbt_qps and candidate.lbt_qps:
        interval = lbt_ratio(baseline, candidate).interval
        ratio = None if interval is None else {"value": interval.ratio, "ci": list(interval.ci)}
    return {"cell": cell.name, "budget": budget, "seed": seed, "ratio": ratio, "s": (now_ns() - start) / 1e9, **found}


def _side_of(name: str, cell: Cell, bench: SimulatedBench) -> Side:
    info = SideInfo(report={}, start_s=0.0, pid=0, rss_bytes=0)
    dispatch = Dispatch(stage=cell.looked_up > 0.0)
    return Side(name=name, info=info, workers=cell.workers, dispatch=dispatch, table=bench.closed_table(name))


def _side(estimate: LbtEstimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"status": "unreachable", "lbt": 0.0, "ci": None, "correlation": 0.0, "clumps": 0, "method": "twin"}
    return {
        "status": estimate.status,
        "lbt": estimate.lbt_qps,
        "ci": list(estimate.ci) if estimate.ci else None,
        "correlation": estimate.correlation,
        "clumps": estimate.clumps,
        "method": estimate.method,
        "scale": estimate.service_scale if math.isfinite(estimate.service_scale) else None,
    }
