"""The final table of a training trial, as rows and lines."""

from __future__ import annotations

from collections.abc import Callable

from rich.markup import escape

from harness.console.numbers import DASH, number, ratio_verdict, validity_line, with_interval
from harness.record.result import ParityResult, Result
from harness.record.side_result import TrainResult

MEBIBYTE = 2**20


def training_rows(result: Result) -> list[tuple[str, str, str, str]]:
    """Name, baseline, candidate and ratio of each row."""
    base, ratio = result.baseline.train, result.ratio
    other = result.measured.train
    if base is None or other is None:
        return []

    def row(name: str, value: Callable[[TrainResult], float | None], compared: str = "") -> tuple[str, str, str, str]:
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
    ]


def training_footer(result: Result) -> list[str]:
    """Verdict, gate and validity."""
    lines = []
    if result.ratio is not None:
        lines.append(f"verdict: {ratio_verdict(result.ratio.train, result.ratio.train_ci)}")
    if result.gate is not None:
        reasons = f": {escape('; '.join(result.gate.reasons))}" if result.gate.reasons else ""
        lines.append(f"gate: {result.gate.verdict}{_parity(result.gate.parity)}{reasons}")
    lines.append(validity_line(result))
    return lines


def _apart(result: Result) -> tuple[float | None, float | None]:
    ratio = result.ratio
    return (None, None) if ratio is None else (ratio.train_input, ratio.train_compute)


def _parity(parity: ParityResult | None) -> str:
    if parity is None:
        return ""
    share = DASH if parity.share is None else f"{parity.share:.0%}"
    return (
        f", {parity.compared:,} of {parity.elements:,} moved parameters compared after {parity.steps} steps; "
        f"{escape(parity.worst)} takes {share} of its tolerance"
    )
