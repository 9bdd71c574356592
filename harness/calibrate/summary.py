"""What many comparisons of a cell say about the estimator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.calibrate.cells import Cell
from harness.calibrate.study import BOTH
from harness.calibrate.truth import truth_qps

OVERSTATED = 1.02


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
    truths = {name: truth_qps(calm, cell.gain if name == "candidate" else 1.0) for name in BOTH}
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
