"""Recompute what a record publishes from its raw columns, and say where the two disagree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate import accuracy
from harness.record.derive import counted, late_count, latencies_ms, percentile_ms, service_ms
from harness.record.reader import Record, RecordError, read_record, record_problems
from harness.record.result import Result, SideResult
from leaderboard.result_check import check_result

TOLERANCE = 1e-9
"""Relative. The same functions on the same columns: only the order of a sum may differ."""

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One published number, what its raw columns give, and whether they agree."""

    what: str
    published: float | str | None
    recomputed: float | str | None
    agrees: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """``problems``: files and schema. ``findings``: every number that was recomputed."""

    problems: list[str]
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether everything that can be checked is as published."""
        return not self.problems and all(finding.agrees for finding in self.findings)


def verify(path: Path) -> Verification:
    """Check manifest and schema, then recompute accuracy, gate, late counts and percentiles."""
    problems = record_problems(path)
    try:
        record = read_record(path)
        problems += check_result(record.result.to_dict())
        findings = list(_findings(record))
    except (RecordError, ValueError, KeyError) as error:
        return Verification(problems=[*problems, str(error)], findings=[])
    return Verification(problems=problems, findings=findings)


def _findings(record: Record) -> Iterator[Finding]:
    result, predictions, queries = record.result, record.predictions(), record.queries()
    for name, side in _sides(result).items():
        yield from _accuracy(name, side, predictions)
        yield from _percentiles(name, side, result, queries)
    if result.gate is not None:
        yield from _gate(result, predictions)
    yield from _late(result, queries)


def _sides(result: Result) -> dict[str, SideResult]:
    sides = {"baseline": result.baseline}
    return sides if result.candidate is None else {**sides, "candidate": result.candidate}


def _accuracy(name: str, side: SideResult, predictions: Columns) -> Iterator[Finding]:
    labels, scores = _run(predictions, name, "accuracy")
    if not len(labels) or not np.isfinite(scores).all():
        yield _finding(f"{name}.auc", side.auc, None)
        return
    yield _finding(f"{name}.auc", side.auc, accuracy.auc(labels, scores))
    yield _finding(f"{name}.logloss", side.logloss, accuracy.logloss(labels, scores))
    yield _finding(f"{name}.pcoc", side.pcoc, accuracy.pcoc(labels, scores))


def _gate(result: Result, predictions: Columns) -> Iterator[Finding]:
    assert result.gate is not None
    published = result.gate
    labels, base = _run(predictions, "baseline", "accuracy")
    _, candidate = _run(predictions, "candidate", "accuracy")
    gate = accuracy.gate(labels, base, candidate)
    yield _finding("gate.auc_delta", published.auc_delta, gate.auc_delta)
    for end, low_high in enumerate(("low", "high")):
        yield _finding(f"gate.auc_delta_ci.{low_high}", _end(published.auc_delta_ci, end), gate.auc_delta_ci[end])
        yield _finding(
            f"gate.logloss_delta_ci.{low_high}", _end(published.logloss_delta_ci, end), gate.logloss_delta_ci[end]
        )
    yield _finding("gate.pcoc_ratio", published.pcoc_ratio, gate.pcoc_ratio)
    yield from _timed(result, predictions, labels, base, candidate)


def _timed(result: Result, predictions: Columns, *scores: npt.NDArray[Any]) -> Iterator[Finding]:
    """The farthest timed answer, and the verdict with the timed answers in the place of the accuracy run's."""
    assert result.gate is not None
    labels, base, candidate = scores
    rows = (predictions["side"] == "candidate") & (predictions["run"] == "timed")
    samples, timed = predictions["sample_id"][rows], predictions["score"][rows]
    answers = accuracy.timed_answers(candidate[samples], timed, result.gate.timed_tolerance or 0.0)
    yield _finding("gate.timed_deviation", result.gate.timed_deviation, answers.largest)
    replaced = candidate.copy()
    replaced[samples] = timed
    gates = (accuracy.gate(labels, base, candidate), accuracy.gate(labels, base, replaced))
    passed = all(part.verdict == "pass" for part in (*gates, answers))
    verdict = "pass" if passed else "fail"
    published = result.gate.verdict
    yield Finding(what="gate.verdict", published=published, recomputed=verdict, agrees=published == verdict)


def _percentiles(name: str, side: SideResult, result: Result, queries: Columns) -> Iterator[Finding]:
    steady = latencies_ms(queries)[_rows(name, "latency", result, queries)]
    for what, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        yield _finding(f"{name}.latency_ms.{what}", getattr(side.latency_ms, what), percentile_ms(steady, share))
    if result.trial["scenario"] == "server":
        single = service_ms(queries)[_rows(name, "single_stream", result, queries)]
        for what, share in (("p50", 0.5), ("p99", 0.99)):
            published = getattr(side.single_stream_ms, what)
            yield _finding(f"{name}.single_stream_ms.{what}", published, percentile_ms(single, share))


def _late(result: Result, queries: Columns) -> Iterator[Finding]:
    """Late counts of all segments as one sum, or the first segment that disagrees."""
    limit_ms = float(result.trial["sla"]["limit_ms"])
    for segment in result.segments:
        found = late_count(queries, segment, limit_ms)
        if found != (segment.queries, segment.late):
            what = f"late of segment {segment.segment} ({segment.side}, {segment.purpose})"
            said = f"{segment.late} of {segment.queries}"
            yield Finding(what=what, published=said, recomputed=f"{found[1]} of {found[0]}", agrees=False)
            return
    total = sum(segment.queries for segment in result.segments)
    text = f"{sum(segment.late for segment in result.segments)} of {total}"
    yield Finding(what=f"late queries of {len(result.segments)} segments", published=text, recomputed=text, agrees=True)


def _rows(side: str, purpose: str, result: Result, queries: Columns) -> npt.NDArray[np.bool_]:
    return counted(queries, [s for s in result.segments if s.side == side and s.purpose == purpose])


def _run(predictions: Columns, side: str, run: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(labels, scores) of one run in order of sample."""
    rows = (predictions["side"] == side) & (predictions["run"] == run)
    order = np.argsort(predictions["sample_id"][rows], kind="stable")
    return predictions["label"][rows][order], predictions["score"][rows][order]


def _finding(what: str, published: float | None, recomputed: float | None) -> Finding:
    if published is None or recomputed is None:
        agrees = published is None and recomputed is None
    else:
        agrees = math.isclose(published, recomputed, rel_tol=TOLERANCE, abs_tol=1e-12)
    return Finding(what=what, published=published, recomputed=recomputed, agrees=agrees)


def _end(interval: tuple[float, float] | None, index: int) -> float | None:
    return None if interval is None else interval[index]
