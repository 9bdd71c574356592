"""What comparisons of real processes with themselves say about the referee, as Markdown.

The truth of a process is measured and has an error of its own, which is said beside it: an interval of 95 % need not
hold a truth that is known no better than the estimate. A side whose truth or estimate has no error is told of, and not
counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.calibrate.study import BOTH
from harness.estimate.stats import log_t_interval

QUIET_STEAL, QUIET_NULL_MS = 0.005, 1.0
"""A quiet machine, in the worst quad of a run: less stolen time than that, and no null probe longer at p99 (ms)."""
NORMAL_95 = 1.96
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
    side = result[name]
    known = "" if side["truth_log_se"] is None else f" ± {side['truth_log_se']:.1%}"
    parts = [result["cell"], str(result["seed"]), name, f"{side['truth']:.1f}{known}"]
    if not _counts(side):
        return [*parts, "", "", "", "", side["status"]]
    low, high = side["ci"]
    holds = "yes" if _holds_truth(side) else "no"
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


def _counts(side: Mapping[str, Any]) -> bool:
    return side["ci"] is not None and side["truth_log_se"] is not None


def _counted(results: Results) -> list[Mapping[str, Any]]:
    return [result[name] for result in results for name in BOTH if _counts(result[name])]


def _error(side: Mapping[str, Any]) -> float:
    return math.log(side["lbt"] / side["truth"])


def _holds_truth(side: Mapping[str, Any]) -> bool:
    low, high = side["ci"]
    return bool(low <= side["truth"] <= high)


def _holds_it_with_error(side: Mapping[str, Any]) -> bool:
    """Whether the difference is within what the interval and the truth's own standard error allow together."""
    end = side["ci"][side["truth"] > side["lbt"]]
    return abs(_error(side)) <= math.hypot(math.log(end / side["lbt"]), NORMAL_95 * side["truth_log_se"])


def _summary(cell: str, results: Results) -> str:
    """Errors, coverage, and whether ratios of a system to itself lean to a side."""
    sides, ratios = _counted(results), [result["ratio"] for result in results if result["ratio"]]
    if not sides:
        return f"{cell}: no run ended with an interval and a truth.\n"
    errors, known = [_error(side) for side in sides], np.median([side["truth_log_se"] for side in sides])
    holds, allowed = sum(map(_holds_truth, sides)), sum(map(_holds_it_with_error, sides))
    false = sum(not ratio["ci"][0] <= 1.0 <= ratio["ci"][1] for ratio in ratios)
    text = (
        f"{cell}: median error {np.median(errors):+.2%}, sd {np.std(errors):.2%}; {holds} of {len(sides)} intervals "
        f"hold the truth, {allowed} where its own error (median {known:.2%}) is allowed for; {false} of {len(ratios)} "
        "ratios of a system to itself exclude 1"
    )
    if len(ratios) > 1:
        mean, (low, high) = log_t_interval([math.log(ratio["value"]) for ratio in ratios])
        text += f", their mean is {mean:.4f} [{low:.4f}, {high:.4f}]"
    quiet = [result for result in results if _quiet(result)]
    if of_quiet := [_error(side) for side in _counted(quiet)]:
        bounds = f"steal below {QUIET_STEAL:.1%}, null p99 at most {QUIET_NULL_MS:g} ms"
        text += f". {len(quiet)} runs on a quiet machine ({bounds}): median error {np.median(of_quiet):+.2%}"
    return f"{text}.\n"
