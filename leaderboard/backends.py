"""Every model on every backend, as it comes and by its plan, as the Markdown table of docs/backends.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from harness.console.report import DASH, number, with_interval
from harness.record.result import Result
from harness.record.side_result import SideResult
from leaderboard.pages import markdown
from leaderboard.store import Entry, Workload

HEADINGS = (
    *("model", "backend", "plan", "LBT, qps", "n=100, ms", "AUC", "RSS, MiB", "start, s", "export, s", "gate"),
    "no rank because",
)
MARK = "matrix"
MIB = 2**20
Cell = tuple[str, str]
"""Model and backend."""


def matrix(entries: Iterable[Entry]) -> str:
    """Two rows for the best plan of each model on each backend: its baseline, and its candidate.

    Of a plan the newest record counts, of the plans the one with the highest LBT; one that has no rank only where no
    other is left, and says why. A model's rows are of one workload, that of its newest record. Records of ``opt=[]``
    alone have no row, nor have trainings, those with a peer, void ones, and plans of the open division.
    """
    found = sorted((entry for entry in entries if _shown(entry.result)), key=lambda entry: entry.result.created)
    workloads = {entry.result.trial["model"]: Workload.of(entry.result) for entry in found}
    of_plan: dict[tuple[Cell, str], Entry] = {}
    for entry in sorted(found, key=lambda entry: not entry.unranked):
        trial = entry.result.trial
        if Workload.of(entry.result) == workloads[trial["model"]]:
            of_plan[(trial["model"], trial["backend"]), json.dumps(trial["opts"], sort_keys=True)] = entry
    best = {cell: entry for (cell, _), entry in sorted(of_plan.items(), key=lambda item: _speed(item[1]))}
    return markdown([HEADINGS, *(row for cell in sorted(best) for row in _rows(best[cell]))])


def _shown(result: Result) -> bool:
    closed = all(line.division == "closed" for line in result.plan)
    served = result.candidate is not None and not result.trains and result.peer is None
    return served and closed and not result.void


def _speed(entry: Entry) -> tuple[bool, bool, float, str]:
    """Ranked before those that passed their gate, and these before the rest; then by throughput."""
    result = entry.result
    passed = result.gate is not None and result.gate.verdict == "pass"
    return not entry.unranked, passed, result.measured.lbt_qps or 0.0, result.created


def _rows(entry: Entry) -> Iterator[tuple[str, ...]]:
    result, reasons = entry.result, "; ".join(entry.unranked) or DASH
    gate = DASH if result.gate is None else result.gate.verdict
    plan = f"[{','.join(sorted(result.trial['opts']))}]"
    for name, side, verdict in (("stock", result.baseline, DASH), (plan, result.candidate, gate)):
        if side is not None:
            yield (result.trial["model"], result.trial["backend"], name, *_numbers(side), verdict, reasons)


def _numbers(side: SideResult) -> tuple[str, ...]:
    memory = None if side.rss_bytes is None else side.rss_bytes / MIB
    status = "" if side.lbt_status == "measured" else f" {side.lbt_status.replace('_', ' ')}"
    return (
        with_interval(side.lbt_qps, side.lbt_ci) + status,
        number(side.service_ms.n100),
        number(side.auc, 5),
        number(memory),
        number(side.start_s),
        number(side.export_s),
    )
