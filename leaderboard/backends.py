"""Every model on every backend, as it comes and by its plan, as the Markdown table of docs/backends.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.console.report import DASH, number, with_interval
from harness.record.result import Result
from harness.record.side_result import SideResult
from leaderboard.pages import markdown
from leaderboard.store import Workload

HEADINGS = ("model", "backend", "plan", "LBT, qps", "n=100, ms", "AUC", "RSS, MiB", "start, s", "export, s", "gate")
MARK = "matrix"
MIB = 2**20


def matrix(results: Iterable[Result]) -> str:
    """Two rows for the newest result of each model on each backend: its baseline, and its candidate.

    A model's rows are of one workload, that of its newest result. Results of ``opt=[]`` alone have no row, nor have
    trainings, nor those with a peer.
    """
    paired = (r for r in results if r.candidate is not None and not r.trains and r.peer is None)
    found = sorted(paired, key=lambda result: result.created)
    workloads = {result.trial["model"]: Workload.of(result) for result in found}
    newest = {
        (result.trial["model"], result.trial["backend"]): result
        for result in found
        if Workload.of(result) == workloads[result.trial["model"]]
    }
    return markdown([HEADINGS, *(row for key in sorted(newest) for row in _rows(newest[key]))])


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    gate = DASH if result.gate is None else result.gate.verdict
    plan = f"[{','.join(sorted(result.trial['opts']))}]"
    for name, side, verdict in (("stock", result.baseline, DASH), (plan, result.candidate, gate)):
        if side is not None:
            yield (result.trial["model"], result.trial["backend"], name, *_numbers(side), verdict)


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
