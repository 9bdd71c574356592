"""The plan table and the one final table, as rich renderables made from a ``Result`` only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from harness.console.numbers import DASH, interval, number, ratio_verdict, validity_line, verdict_line, with_interval
from harness.console.training_report import training_footer, training_rows
from harness.record.jsonable import to_plain
from harness.record.result import Certificate, PlanLine, Ratio, Result
from harness.record.side_result import SideResult
from optimizations.contract import PlanError
from optimizations.plan import available

__all__ = [
    "DASH",
    "interval",
    "marks",
    "number",
    "plan_table",
    "ratio_verdict",
    "result_table",
    "with_interval",
]


def marks(line: PlanLine) -> str:
    """What a reader must know of a plan line: emulated hardware, blocks that fell back, open division, what was chosen
    or built at the start."""
    found = ["emulated"] if line.emulated else []
    if line.fallbacks:
        found.append(f"fallback: {', '.join(line.fallbacks)}")
    if line.division == "open":
        found.append("open")
    if "summary" in line.built:
        found.append(str(line.built["summary"]))
    else:
        found += [f"{name.replace('_', ' ')} {_said(value)}" for name, value in line.built.items()]
    return "; ".join(found)


def _said(value: object) -> str:
    return number(value) if value is None or isinstance(value, (int, float)) else str(value)


def plan_text(result: Result) -> str:
    """Name of the plan, and the options that are not as by default: ``[fusion] (fusion.fc=False)``."""
    changed = [f"{line.name}.{key}={value}" for line in result.plan for key, value in changed_options(line).items()]
    return result.plan_name + (f" ({', '.join(changed)})" if changed else "")


def plan_table(lines: Sequence[PlanLine], slack: float | None, baseline_slack: float | None) -> RenderableType:
    """What will run, before it runs."""
    table = Table(title="plan", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("optimization", "phase", "claims", "marks"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        name = line.name + _options(line)
        table.add_row(escape(name), line.phase.lower(), escape(_shortened(line.claims)), escape(marks(line)))
    if not lines:
        table.add_row("(none: the baseline alone)", "", "", "")
    if baseline_slack is None:
        return table
    slacks = f"slack: baseline {number(baseline_slack)}, candidate {number(slack)} (SLA limit / p99 service time)"
    return Group(table, slacks)


def result_table(result: Result) -> RenderableType:
    """Baseline, candidate, ratio, gate, floor and validity; of a training its speed, gate and validity."""
    trial = result.trial
    if trial["scope"] == "train":
        return _training_table(result)
    sla = trial["sla"]
    title = (
        f"{trial['model']} on {result.dataset.name} ({trial['backend']}, {trial['device']}), {_measured(result)}, "
        f"{trial['scenario']}, p{sla['percentile']:g} <= {sla['limit_ms']:g} ms, budget {trial['budget']}"
    )
    return Group(_sides_table(title, result, _rows(result)), *_footer(result))


def _measured(result: Result) -> str:
    """Which plan, over whom if not over ``opt=[]``; or which peer."""
    if result.is_peer:
        return result.plan_name
    plan = f"opt=[{','.join(result.trial['opts'])}]"
    return plan if result.peer is None else f"{plan} over {result.peer.title}"


def _training_table(result: Result) -> RenderableType:
    trial, opts = result.trial, ",".join(result.trial["opts"])
    title = (
        f"training {trial['model']} on {result.dataset.name} ({trial['backend']}, {trial['device']}), opt=[{opts}], "
        f"batch {trial['training']['batch_size']}, budget {trial['budget']}"
    )
    return Group(_sides_table(title, result, training_rows(result)), *training_footer(result))


def _sides_table(title: str, result: Result, rows: Sequence[tuple[str, str, str, str]]) -> Table:
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("baseline", justify="right")
    if result.candidate is not None:
        table.add_column("candidate", justify="right")
        table.add_column("ratio", justify="right")
    for row in rows:
        table.add_row(*row[: len(table.columns)])
    return table


def _options(line: PlanLine) -> str:
    changed = changed_options(line)
    return f" ({', '.join(f'{key}={value}' for key, value in changed.items())})" if changed else ""


def changed_options(line: PlanLine) -> dict[str, Any]:
    """The options that differ from the plug-in's defaults; all of them for a plug-in that cannot be read here."""
    try:
        spec = available().get(line.name)
    except PlanError:
        spec = None
    defaults = {} if spec is None else to_plain(spec.options())
    return {key: value for key, value in line.options.items() if key not in defaults or defaults[key] != value}


def _shortened(claims: Sequence[str], shown: int = 6) -> str:
    rest = len(claims) - shown
    return ", ".join(claims[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _rows(result: Result) -> list[tuple[str, str, str, str]]:
    base, cand, ratio = result.baseline, result.candidate, result.ratio
    other = base if cand is None else cand
    rows = [
        (
            "latency-bound throughput, qps",
            _lbt(base),
            _lbt(other),
            DASH if ratio is None else with_interval(ratio.lbt, ratio.lbt_ci),
        ),
        (
            "service time of 100 samples, ms",
            number(base.service_ms.n100),
            number(other.service_ms.n100),
            DASH if ratio is None else with_interval(ratio.service, ratio.service_ci),
        ),
        *([] if ratio is None or ratio.service_new is None else [_new_and_known(ratio)]),
        ("slack", number(base.slack), number(other.slack), ""),
        ("p50 / p99 at 70 % of its LBT, ms", _latency(base), _latency(other), ""),
        ("single stream p50 / p99, ms", _single(base), _single(other), ""),
        (
            "offline, samples/s",
            number(base.offline_samples_per_s),
            number(other.offline_samples_per_s),
            DASH if ratio is None else number(ratio.offline),
        ),
        ("AUC", number(base.auc, 5), number(other.auc, 5), _auc_delta(result)),
        ("logloss", number(base.logloss, 5), number(other.logloss, 5), ""),
    ]
    return rows


def _new_and_known(ratio: Ratio) -> tuple[str, str, str, str]:
    both = f"{number(ratio.service_new)} / {number(ratio.service_known)}"
    return "service time of new / known queries", "", "", both


def _lbt(side: SideResult) -> str:
    if side.lbt_status == "unreachable":
        return "0 (late at every rate)"
    text = with_interval(side.lbt_qps, side.lbt_ci)
    if side.lbt_status in ("undetermined", "few_clumps"):
        return f"{text} {side.lbt_status.replace('_', ' ')}"
    return f">= {text}" if side.lbt_status == "beyond_range" else text


def _latency(side: SideResult) -> str:
    return f"{number(side.latency_ms.p50)} / {number(side.latency_ms.p99)}"


def _single(side: SideResult) -> str:
    return f"{number(side.single_stream_ms.p50)} / {number(side.single_stream_ms.p99)}"


def _auc_delta(result: Result) -> str:
    if result.gate is None or result.gate.auc_delta is None:
        return ""
    bounds = result.gate.auc_delta_ci
    shown = "" if bounds is None else f" [{bounds[0]:+.5f}, {bounds[1]:+.5f}]"
    return f"{result.gate.auc_delta:+.5f}{shown}"


def _certified(certificate: Certificate) -> str:
    last = certificate.attempts[-1]
    late = f"{last.late_fraction:.2%} late, below {last.bound:.2%} with 95 % confidence"
    if certificate.rate_qps is None:
        return f"none after {len(certificate.attempts)} attempts; the last, at {number(last.rate_qps)} qps: {late}"
    tries = f", attempt {len(certificate.attempts)}" if len(certificate.attempts) > 1 else ""
    return f"{number(certificate.rate_qps)} qps held by a fresh process on a held-out trace{tries}: {late}"


def _footer(result: Result) -> list[str]:
    lines = []
    if result.ratio is not None:
        lines.append(verdict_line(result) + (f" ({escape(result.ratio.reason)})" if result.ratio.reason else ""))
        if result.ratio.doubt:
            lines.append(f"doubt: {result.ratio.doubt}")
    if result.gate is not None:
        reasons = f": {escape('; '.join(result.gate.reasons))}" if result.gate.reasons else ""
        apart = "" if result.gate.same_weights else ", the AUC alone (a model of its own)"
        lines.append(f"gate: {result.gate.verdict}{apart}, timed answers {result.gate.timed_answers}{reasons}")
    if result.certificate is not None:
        lines.append(f"certificate: {_certified(result.certificate)}")
    elif result.official:
        lines.append(f"certificate: none, the LBT is {result.measured.lbt_status} and has no interval")
    floor = result.floor
    bound = ", the result is bound by the referee" if floor.referee_bound else ""
    lines.append(
        f"floor: p50 {number(floor.p50_ms)} ms, p99 {number(floor.p99_ms)} ms, {number(floor.lbt_qps)} qps{bound}"
    )
    lines.append(validity_line(result))
    if result.dataset.bayes_auc is not None:
        lines.append(f"Bayes AUC of the data set: {number(result.dataset.bayes_auc, 5)}")
    emulated = [line.name for line in result.plan if line.emulated]
    if emulated:
        lines.append(f"emulated on this hardware: {', '.join(emulated)}")
    return lines
