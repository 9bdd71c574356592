"""The final table of a training trial, as rows and lines."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from rich.markup import escape

from harness.console.numbers import DASH, number, validity_line, verdict_line, with_interval
from harness.record.result import GateResult, ParityResult, Result
from harness.record.side_result import TrainResult

MEBIBYTE = 2**20


Row = tuple[str, str, str, str]


def training_rows(result: Result) -> list[Row]:
    """Name, baseline, candidate and ratio of each row."""
    base, ratio = result.baseline.train, result.ratio
    other = result.measured.train
    if base is None or other is None:
        return []

    def row(name: str, value: Callable[[TrainResult], float | None], compared: str = "") -> Row:
        return name, number(value(base)), number(value(other)), compared

    speed = DASH if ratio is None else with_interval(ratio.train, ratio.train_ci)
    apart = [DASH if ratio is None else number(value) for value in _apart(result)]
    return [
        row("training, samples/s", lambda side: side.samples_per_s, speed),
        row("inputs alone, samples/s", lambda side: side.input_rows_per_s, apart[0]),
        row("compute alone, samples/s", lambda side: side.compute_samples_per_s, apart[1]),
        row("timed steps", lambda side: float(side.steps)),
        row("timed seconds", lambda side: side.seconds),
        row("cores busy", lambda side: side.cpu_share),
        row("peak memory, MiB", lambda side: None if side.peak_bytes is None else side.peak_bytes / MEBIBYTE),
        row("minor page faults per step", lambda side: side.minor_faults_per_step),
        *(_to_auc_rows(result, row) if base.to_auc else []),
    ]


def _to_auc_rows(result: Result, row: Callable[..., Row]) -> list[Row]:
    """Trainings to their end."""
    ratio, other, base = result.ratio, result.measured, result.baseline
    train = base.train
    assert train is not None
    count = len(train.to_auc)
    sooner = DASH if ratio is None else with_interval(ratio.train_to_auc, ratio.train_to_auc_ci)
    over = f"{count} seeds" if count > 1 else "1 seed"
    accuracies = (("test AUC", base.auc, other.auc), ("test logloss", base.logloss, other.logloss))
    return [
        row(f"seconds to AUC {train.target_auc:.4f}, {over}", lambda side: side.seconds_to_auc, sooner),
        row("steps to that AUC", lambda side: _median([each.steps_to_auc for each in side.to_auc])),
        *((name, precise(a), precise(b), "") for name, a, b in accuracies),
        ("test PCOC", number(base.pcoc), number(other.pcoc), ""),
    ]


def _median(steps: list[int | None]) -> float | None:
    known = [step for step in steps if step is not None]
    return float(statistics.median(known)) if known and len(known) == len(steps) else None


def precise(value: float | None) -> str:
    """Four digits after the point."""
    return DASH if value is None else f"{value:.4f}"


def training_footer(result: Result) -> list[str]:
    """Verdict, gate and validity."""
    lines = []
    if result.ratio is not None:
        lines.append(verdict_line(result))
    if result.gate is not None:
        reasons = f": {escape('; '.join(result.gate.reasons))}" if result.gate.reasons else ""
        lines.append(f"gate: {result.gate.verdict}{_parity(result.gate.parity)}{_seeds(result.gate)}{reasons}")
    if result.ratio is not None and result.ratio.train_to_auc_reason:
        lines.append(f"time to AUC: {result.ratio.train_to_auc_reason}")
    lines.append(validity_line(result))
    return lines


def _apart(result: Result) -> tuple[float | None, float | None]:
    ratio = result.ratio
    return (None, None) if ratio is None else (ratio.train_input, ratio.train_compute)


def _seeds(gate: GateResult) -> str:
    if gate.seeds is None or gate.auc_delta is None or gate.auc_delta_ci is None:
        return ""
    low, high = gate.auc_delta_ci
    return (
        f", test AUC {gate.auc_delta:+.5f} [{low:+.5f}, {high:+.5f}] over {len(gate.seeds.seeds)} seeds, margin "
        f"-{gate.margin:.5f}"
    )


def _parity(parity: ParityResult | None) -> str:
    if parity is None:
        return ""
    share = DASH if parity.share is None else f"{parity.share:.0%}"
    return (
        f", {parity.compared:,} of {parity.elements:,} moved parameters compared after {parity.steps} steps; "
        f"{escape(parity.worst)} takes {share} of its tolerance"
    )
