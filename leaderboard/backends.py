"""Every model on every backend, as it comes and by its plan, as the Markdown table of docs/backends.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.console.report import DASH, number, with_interval
from harness.errors import ConfigurationError
from harness.record.result import Result
from harness.record.side_result import SideResult
from leaderboard.store import Workload

HEADINGS = ("model", "backend", "plan", "LBT, qps", "n=100, ms", "AUC", "RSS, MiB", "start, s", "export, s", "gate")
START, END = "<!-- matrix -->", "<!-- end of matrix -->"
MIB = 2**20


def matrix(results: Iterable[Result]) -> str:
    """Two rows for the newest result of each model on each backend: its baseline, and its candidate.

    A model's rows are of one workload, that of its newest result. Results of ``opt=[]`` alone have no row, nor have
    trainings.
    """
    found = sorted((r for r in results if r.candidate is not None and not r.trains), key=lambda result: result.created)
    workloads = {result.trial["model"]: Workload.of(result) for result in found}
    newest = {
        (result.trial["model"], result.trial["backend"]): result
        for result in found
        if Workload.of(result) == workloads[result.trial["model"]]
    }
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(row for key in sorted(newest) for row in _rows(newest[key]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def into_page(table: str, page: Path) -> None:
    """Put ``table`` between the two marks of ``page``. Raises ConfigurationError where it does not have them."""
    text = page.read_text("utf-8") if page.is_file() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ConfigurationError(f"--into {page}: there is no page with the lines {START} and {END}; add them to it")
    page.write_text(f"{before}{START}\n{table}\n{END}{after}", "utf-8")


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
