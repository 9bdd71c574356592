"""One simulated comparison from the first probe to the ratio, and what many of them say about the estimator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.calibrate.cells import Cell
from harness.calibrate.simulated import SimulatedBench
from harness.clock import now_ns
from harness.estimate.comparison import lbt_ratio
from harness.estimate.lbt import LbtEstimate
from harness.measurement.bench import Quad
from harness.measurement.quads import abba_order
from harness.measurement.side import Side, prepare_quad, refine, search_rate
from harness.options import BUDGETS
from harness.sut.process import SideInfo
from optimizations.contract import Dispatch

BOTH = ("baseline", "candidate")
OVERSTATED = 1.02


def compare_once(cell: Cell, budget: str, seed: int) -> dict[str, Any]:
    """Search, quads and estimates of both sides; a flat JSON object."""
    bench = SimulatedBench(
        cell=cell, budget=BUDGETS[budget], seed=seed, gains={"baseline": 1.0, "candidate": cell.gain}
    )
    sides = [_side_of(name, cell, bench) for name in BOTH]
    for side in sides:
        search_rate(bench, side)
    for quad in (Quad(number=number, traces=number) for number in range(int(bench.budget.quads))):
        prepare_quad(bench, sides, quad)
        for side, half in abba_order(sides, quad.number):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the repeats of one cell say. Shares are of the sides (or comparisons) that ended with an interval.

    steady: whether the host was, so that a side's LBT has a truth. ``error`` and ``sd`` are of the log LBT; ``rms``
    holds both. overstated: share whose LBT is more than 2 % above the truth. ratio_*: of the intervals of the ratio.
    """

    cell: str
    budget: str
    repeats: int
    truth_qps: float
    truth_ratio: float
    steady: bool
    correlation: float
    clumps: float
    ok: float
    few_clumps: float
    regression: float
    mean_qps: float
    error: float
    sd: float
    covered: float
    sides: int
    overstated: float
    half_width: float
    ratio_covered: float
    ratio_error: float
    ratio_half_width: float
    ratios: int
    seconds: float


def summarise(cell: Cell, results: Sequence[Mapping[str, Any]]) -> Row:
    """The row of one cell; NaN where nothing ended with an interval."""
    sides = [(result[name], name) for result in results for name in BOTH]
    calm = cell if cell.steady else dataclasses.replace(cell, host_sd=0.0)
    truths = {name: calm.truth_qps(cell.gain if name == "candidate" else 1.0) for name in BOTH}
    sound = [(side, truths[name]) for side, name in sides if side["ci"]]
    errors = np.array([math.log(side["lbt"] / truth) for side, truth in sound])
    ratio = truths["candidate"] / truths["baseline"]
    ratios = [result["ratio"] for result in results if result["ratio"]]
    return Row(
        cell=cell.name,
        budget=str(results[0]["budget"]),
        repeats=len(results),
        truth_qps=truths["baseline"],
        truth_ratio=ratio,
        steady=cell.steady,
        correlation=float(np.median([side["correlation"] for side, _ in sides])),
        clumps=float(np.median([side["clumps"] for side, _ in sides])),
        ok=_share([side["status"] == "ok" for side, _ in sides]),
        few_clumps=_share([side["status"] == "few_clumps" for side, _ in sides]),
        regression=_share([side["method"] == "regression" for side, _ in sides]),
        mean_qps=float(np.exp(errors.mean()) * truths["baseline"]) if errors.size else math.nan,
        error=float(errors.mean()) if errors.size else math.nan,
        sd=float(errors.std(ddof=1)) if errors.size > 1 else math.nan,
        covered=_share([side["ci"][0] <= truth <= side["ci"][1] for side, truth in sound]),
        sides=len(sound),
        overstated=_share([side["lbt"] > OVERSTATED * truth for side, truth in sound]),
        half_width=_median_half([side["ci"] for side, _ in sound]),
        ratio_covered=_share([r["ci"][0] <= ratio <= r["ci"][1] for r in ratios]),
        ratio_error=float(np.mean([math.log(r["value"] / ratio) for r in ratios])) if ratios else math.nan,
        ratio_half_width=_median_half([r["ci"] for r in ratios]),
        ratios=len(ratios),
        seconds=float(np.mean([result["s"] for result in results])),
    )


def _share(flags: Sequence[bool]) -> float:
    return float(np.mean(flags)) if flags else math.nan


def _median_half(intervals: Sequence[Sequence[float]]) -> float:
    return float(np.median([math.sqrt(high / low) - 1.0 for low, high in intervals])) if intervals else math.nan
