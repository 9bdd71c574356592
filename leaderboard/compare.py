"""Two records side by side: what became better or worse beyond the intervals."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from harness.console.report import number, with_interval
from harness.errors import ConfigurationError
from harness.estimate import accuracy
from harness.record.reader import Record
from harness.record.result import Result
from harness.record.side_result import Interval
from leaderboard.store import Workload

Verdict = Literal["better", "worse", "no difference", "not tested"]
TRAINED = {
    "training, samples/s": "samples_per_s",
    "inputs alone, samples/s": "input_rows_per_s",
    "compute alone, samples/s": "compute_samples_per_s",
    "peak memory, bytes": "peak_bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric of both records. ``change``: B over A, or B - A for differences; ``ci`` its 95 % interval."""

    metric: str
    before: float | None
    after: float | None
    change: float | None
    ci: Interval | None
    verdict: Verdict
    digits: int = 3


def compare(before: Record, after: Record, force: bool = False) -> list[Line]:
    """Compare what ``after`` measured with what ``before`` measured.

    Raises ConfigurationError when they differ in workload or hardware, unless ``force``.
    """
    differences = incomparable(before.result, after.result)
    if differences and not force:
        raise ConfigurationError(
            f"{before.path.name} and {after.path.name} cannot be compared: {'; '.join(differences)}; "
            "--force compares them all the same"
        )
    a, b = before.result, after.result
    if b.trains:
        return [
            _ratio_line("training speed over that of opt=[]", _speedup(a), _speedup(b)),
            _gate_line(a, b),
            *(_untested(metric, _trained(a, name), _trained(b, name)) for metric, name in TRAINED.items()),
        ]
    return [
        _ratio_line("latency-bound throughput, qps", _with_interval(a), _with_interval(b)),
        _own_ratio_line(a, b),
        _auc_line(before, after),
        _gate_line(a, b),
        _untested("service time of 100 samples, ms", a.measured.service_ms.n100, b.measured.service_ms.n100),
        _untested("p99 at 70 % of its LBT, ms", a.measured.latency_ms.p99, b.measured.latency_ms.p99),
        _untested("offline, samples/s", a.measured.offline_samples_per_s, b.measured.offline_samples_per_s),
    ]


def incomparable(before: Result, after: Result) -> list[str]:
    """In what the workloads differ, and which result says nothing, one phrase each."""
    a, b = dataclasses.asdict(Workload.of(before)), dataclasses.asdict(Workload.of(after))
    differences = [f"{name} {_said(a[name])} and {_said(b[name])}" for name in a if a[name] != b[name]]
    void = [name for name, result in (("A", before), ("B", after)) if result.validity.verdict == "void"]
    return [*differences, *(f"the result of {name} is void" for name in void)]


def _said(value: str | float) -> str:
    """Nothing is named where everything is as by default."""
    return "default" if value == "" else str(value)


def regressed(lines: list[Line]) -> bool:
    """Whether any metric is worse beyond its interval."""
    return any(line.verdict == "worse" for line in lines)


def comparison_view(before: Record, after: Record, lines: list[Line]) -> RenderableType:
    """The comparison as a table with its conclusion."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "A", "B", "B against A", "verdict"):
        table.add_column(heading, justify="left" if heading in ("", "verdict") else "right")
    for line in lines:
        change = with_interval(line.change, line.ci, line.digits)
        table.add_row(
            line.metric, number(line.before, line.digits), number(line.after, line.digits), change, line.verdict
        )
    worse = [line.metric for line in lines if line.verdict == "worse"]
    conclusion = f"regression: {', '.join(worse)}" if worse else "no regression beyond the intervals"
    return Group(_named("A", before), _named("B", after), table, conclusion)


def _named(name: str, record: Record) -> str:
    verdict = record.result.validity.verdict
    return escape(f"{name}: {record.path}") + ("" if verdict == "valid" else f" ({verdict.replace('_', ' ')})")


def _ratio_line(
    metric: str, before: tuple[float | None, Interval | None], after: tuple[float | None, Interval | None]
) -> Line:
    """B over A of two independent estimates: half widths are added in squares on the log scale."""
    (a, a_ci), (b, b_ci) = before, after
    if not a or not b:
        fell = bool(a) and b == 0
        return Line(metric=metric, before=a, after=b, change=None, ci=None, verdict="worse" if fell else "not tested")
    if a_ci is None or b_ci is None or min(*a_ci, *b_ci) <= 0:
        return Line(metric=metric, before=a, after=b, change=b / a, ci=None, verdict="not tested")
    low = math.log(b / a) - math.hypot(math.log(b / b_ci[0]), math.log(a_ci[1] / a))
    high = math.log(b / a) + math.hypot(math.log(b_ci[1] / b), math.log(a / a_ci[0]))
    ci = (math.exp(low), math.exp(high))
    return Line(metric=metric, before=a, after=b, change=b / a, ci=ci, verdict=_verdict(ci, 1.0))


def _own_ratio_line(before: Result, after: Result) -> Line:
    """Each ratio is to ``opt=[]`` on its own backend, or to a peer: those to two baselines do not measure the same."""
    a, b = _ratio_with_interval(before), _ratio_with_interval(after)
    peers = [result.trial.get("peer") or {} for result in (before, after)]
    if before.trial["backend"] == after.trial["backend"] and peers[0] == peers[1]:
        return _ratio_line("ratio to its baseline" if peers[0] else "ratio to opt=[]", a, b)
    if any(peers):
        return _untested("ratio to its own baseline", a[0], b[0])
    return _untested("ratio to opt=[] of its own backend", a[0], b[0])


def _auc_line(before: Record, after: Record) -> Line:
    """Paired DeLong on the scores of both records: worse when the difference lies below 0, interval and all."""
    a, b = _scores(before), _scores(after)
    auc_a, auc_b = before.result.measured.auc, after.result.measured.auc
    if a is None or b is None or not np.array_equal(a[0], b[0], equal_nan=True):
        return dataclasses.replace(_untested("AUC", auc_a, auc_b), digits=5)
    paired = accuracy.delong_paired(a[0], a[1], b[1])
    verdict = _verdict(paired.ci, 0.0) if paired.se > 0 else "no difference"
    return Line(
        metric="AUC", before=paired.auc_a, after=paired.auc_b, change=paired.delta, ci=paired.ci, verdict=verdict,
        digits=5,
    )  # fmt: skip


def _gate_line(before: Result, after: Result) -> Line:
    """A gate that passed and now fails is a regression."""
    a = None if before.gate is None else float(before.gate.verdict == "pass")
    b = None if after.gate is None else float(after.gate.verdict == "pass")
    verdict: Verdict = "not tested"
    if a is not None and b is not None:
        verdict = "no difference" if a == b else ("worse" if b < a else "better")
    return Line(metric="gate (1 = passed)", before=a, after=b, change=None, ci=None, verdict=verdict)


def _untested(metric: str, before: float | None, after: float | None) -> Line:
    change = after / before if before and after is not None else None
    return Line(metric=metric, before=before, after=after, change=change, ci=None, verdict="not tested")


def _verdict(ci: Interval, nothing: float) -> Verdict:
    if ci[1] < nothing:
        return "worse"
    return "better" if ci[0] > nothing else "no difference"


def _speedup(result: Result) -> tuple[float | None, Interval | None]:
    ratio, bounds, _ = result.speedup
    return ratio, bounds


def _trained(result: Result, name: str) -> float | None:
    """A number of the measured side's training."""
    train = result.measured.train
    value: float | None = None if train is None else getattr(train, name)
    return value


def _with_interval(result: Result) -> tuple[float | None, Interval | None]:
    return result.measured.lbt_qps, result.measured.lbt_ci


def _ratio_with_interval(result: Result) -> tuple[float | None, Interval | None]:
    return (None, None) if result.ratio is None else (result.ratio.lbt, result.ratio.lbt_ci)


def _scores(record: Record) -> tuple[np.ndarray, np.ndarray] | None:
    """(labels, scores) of the measured side's accuracy run in order of sample, or None without one."""
    columns = record.predictions()
    side = "baseline" if record.result.candidate is None else "candidate"
    rows = (columns["side"] == side) & (columns["run"] == "accuracy")
    order = np.argsort(columns["sample_id"][rows], kind="stable")
    labels, scores = columns["label"][rows][order], columns["score"][rows][order]
    return (labels, scores) if len(labels) and np.isfinite(scores).all() else None
