"""What comparisons of real processes with themselves say about the referee, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.calibrate.study import BOTH
from harness.estimate.stats import log_t_interval

QUIET_STEAL, QUIET_NULL_MS = 0.005, 1.0
"""A quiet machine, in the worst quad of a run: less stolen time than that, and no null probe longer at p99 (ms)."""
SIDES = ("cell", "run", "side", "truth", "estimate", "error", "interval", "holds the truth", "status")
RATIOS = ("cell", "run", "ratio", "interval", "holds 1", "stolen", "null p99, ms", "quiet")
Results = Sequence[Mapping[str, Any]]


def process_table(results: Results) -> str:
    """One line a side, one line a ratio, then what the runs of each cell say together."""
    sides = _table(SIDES, (_side_line(result, name) for result in results for name in BOTH))
    ratios = _table(RATIOS, map(_ratio_line, results))
    return "\n".join(
        [sides, ratios, *(_summary(cell, [r for r in results if r["cell"] == cell]) for cell in _cells(results))]
    )


def _cells(results: Results) -> list[str]:
    return list(dict.fromkeys(str(result["cell"]) for result in results))


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, ["---"] * len(headings), *lines))


def _side_line(result: Mapping[str, Any], name: str) -> list[str]:
    side, parts = result[name], [result["cell"], str(result["seed"]), name, f"{result[name]['truth']:.1f}"]
    if side["ci"] is None:
        return [*parts, "", "", "", "", side["status"]]
    low, high = side["ci"]
    holds = "yes" if low <= side["truth"] <= high else "no"
    return [*parts, f"{side['lbt']:.1f}", f"{_error(side):+.2%}", f"[{low:.1f}, {high:.1f}]", holds, side["status"]]


def _ratio_line(result: Mapping[str, Any]) -> list[str]:
    ratio, parts = result["ratio"], [result["cell"], str(result["seed"])]
    if ratio is None:
        parts += ["", "", ""]
    else:
        low, high = ratio["ci"]
        parts += [f"{ratio['value']:.4f}", f"[{low:.3f}, {high:.3f}]", "yes" if low <= 1.0 <= high else "no"]
    return [*parts, f"{result['steal']:.2%}", f"{result['null_p99_ms']:.2f}", "yes" if _quiet(result) else "no"]


def _quiet(result: Mapping[str, Any]) -> bool:
    return bool(result["steal"] < QUIET_STEAL and result["null_p99_ms"] <= QUIET_NULL_MS)


def _error(side: Mapping[str, Any]) -> float:
    return math.log(side["lbt"] / side["truth"])


def _errors(results: Results) -> list[float]:
    return [_error(result[name]) for result in results for name in BOTH if result[name]["ci"]]


def _summary(cell: str, results: Results) -> str:
    """Errors, coverage, and whether ratios of a system to itself lean to a side."""
    errors, ratios = _errors(results), [result["ratio"] for result in results if result["ratio"]]
    if not errors:
        return f"{cell}: no run ended with an interval.\n"
    sides = [result[name] for result in results for name in BOTH if result[name]["ci"]]
    holds = sum(side["ci"][0] <= side["truth"] <= side["ci"][1] for side in sides)
    false = sum(not ratio["ci"][0] <= 1.0 <= ratio["ci"][1] for ratio in ratios)
    text = (
        f"{cell}: median error {np.median(errors):+.2%}, sd {np.std(errors):.2%}; {holds} of {len(sides)} intervals "
        f"hold the truth; {false} of {len(ratios)} ratios of a system to itself exclude 1"
    )
    if len(ratios) > 1:
        mean, (low, high) = log_t_interval([math.log(ratio["value"]) for ratio in ratios])
        text += f", their mean is {mean:.4f} [{low:.4f}, {high:.4f}]"
    quiet = [result for result in results if _quiet(result)]
    if of_quiet := _errors(quiet):
        bounds = f"steal below {QUIET_STEAL:.1%}, null p99 at most {QUIET_NULL_MS:g} ms"
        text += f". {len(quiet)} runs on a quiet machine ({bounds}): median error {np.median(of_quiet):+.2%}"
    return f"{text}.\n"
