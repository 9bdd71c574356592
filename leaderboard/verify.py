"""Recompute what a record publishes from its raw columns, and say where the two disagree."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigurationError
from harness.measurement.evidence import answers_from
from harness.measurement.gate import allowed_deviation
from harness.measurement.outcome import Outcome, Seen, outcome
from harness.record.jsonable import from_plain, to_plain
from harness.record.reader import Record, RecordError, read_record, record_problems
from harness.record.result import Result
from harness.record.segments import SegmentRows, cut, of_purpose
from harness.record.side_result import SideResult
from harness.training.outcome import training_outcome
from harness.trial import Trial, canonical_json
from leaderboard.amount_check import amount_problems, budget_of
from leaderboard.result_check import check_result
from leaderboard.trace_check import trace_problems
from leaderboard.verify_training import training_numbers, training_problems, training_seen

TOLERANCE = 1e-9
"""Relative, for counts, percentiles and means: only the order of a sum may differ."""
ESTIMATE_TOLERANCE = 1e-6
"""Relative, for what a root finder gave: another machine's logarithms move it a little."""
ROUNDING = 1e-14
"""Absolute: a difference of two AUCs is no better than this."""
ESTIMATED = re.compile(r"\.lbt|LBT|^certificate\..*rate_qps")
COMPARED = ("ratio", "gate", "floor", "validity", "certificate")
SAID = ("rss_bytes", "minor_faults_per_query", "start_s", "train", "workers", "dispatch", "dtypes")
"""Of a side: what no raw column tells. It stands as published; see docs/verifying.md."""

Leaf = float | int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One published number, what its raw columns give, and whether they agree."""

    what: str
    published: Leaf
    recomputed: Leaf
    agrees: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """``problems``: files, schema, and columns that contradict the trial. ``findings``: every recomputed number."""

    problems: list[str]
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether everything that can be checked is as published."""
        return not self.problems and all(finding.agrees for finding in self.findings)


def verify(path: Path) -> Verification:
    """Check manifest and schema, the columns against the trial's published traces, then every number.

    Columns that are not those of the trial are not computed from: what they lack would be missed a second time.
    """
    problems = record_problems(path)
    try:
        record = read_record(path)
        problems += check_result(record.result.to_dict())
        problems += _contradictions(record)
        trial = from_plain(Trial, record.trial)
        if record.result.trains:
            seen = training_seen(record)
            problems += training_problems(seen, budget_of(trial.budget))
            found = list(_compared(*training_numbers(record, training_outcome(seen))))
        else:
            found = _serving(record, trial, problems)
    except (
        RecordError,
        ConfigurationError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ) as error:
        said = error.args[0] if error.args else error
        problem = f"{said}" if isinstance(error, (RecordError, ConfigurationError, ValueError)) else repr(error)
        return Verification(problems=list(dict.fromkeys([*problems, problem])), findings=[])
    return Verification(problems=problems, findings=found)


def _serving(record: Record, trial: Trial, problems: list[str]) -> list[Finding]:
    """What is wrong with the columns of a record is added to ``problems``; its numbers where nothing is."""
    queries, budget = record.queries(), budget_of(trial.budget)
    rows = cut(record.result.segments, queries)
    wrong = trace_problems(trial, budget, rows, queries)
    wrong = wrong or amount_problems(trial, budget, rows, _facts(record.result))
    problems += wrong
    return [] if wrong else list(findings(record.result, outcome(_seen(record, trial, rows))))


def _facts(result: Result) -> dict[str, SideResult]:
    return {"baseline": result.baseline} | ({"candidate": result.candidate} if result.candidate is not None else {})


def _contradictions(record: Record) -> Iterator[str]:
    """Where the JSON files of a record say different things."""
    result, environment = record.result, record.environment
    given = {field.name: field.default for field in dataclasses.fields(Trial)}
    default = {name: value for name, value in given.items() if value is not dataclasses.MISSING} | {"peer": {}}
    for name in dict.fromkeys([*result.trial, *record.trial]):
        measured, said = (values.get(name, default.get(name)) for values in (record.trial, to_plain(result.trial)))
        if canonical_json(said) != canonical_json(measured):
            yield f"trial.json and result.json disagree on {name}: {measured!r} and {said!r}"
    rows = {"dataset": result.dataset.name, "dataset_fingerprint": result.dataset.fingerprint}
    for name, said in rows.items():
        if said != record.trial[name]:
            yield f"the {name} of trial.json is {record.trial[name]!r}, and the data of result.json {said!r}"
    peer = None if result.peer is None else {"name": result.peer.name, "settings": result.peer.settings}
    if (record.trial.get("peer") or None) != peer:
        yield f"trial.json and result.json disagree on the peer: {record.trial.get('peer')!r} and {peer!r}"
    identity = {
        "source_sha256": result.source_sha256,
        "hardware_class": result.hardware_class,
        "git": {"sha": result.git.sha or None, "dirty": result.git.dirty},
    }
    for name, published in identity.items():
        said = environment.get(name)
        if name == "git" and isinstance(said, Mapping):
            said = {"sha": said.get("sha"), "dirty": bool(said.get("dirty"))}
        if said != published:
            yield f"environment.json and result.json disagree on {name}: {said!r} and {published!r}"


def _seen(record: Record, trial: Trial, rows: list[SegmentRows]) -> Seen:
    result = record.result
    labels, answers = answers_from(record.predictions())
    facts = _facts(result)
    if set(answers) != set(facts):
        raise ValueError(f"predictions.parquet holds {sorted(answers)}, result.json {sorted(facts)}")
    quads = record.environment["run"]["quads"]
    for side in facts:
        ran = sorted({row.info.quad for row in of_purpose(rows, "paired", side)})
        if sorted(quad["quad"] for quad in quads) != ran:
            said = sorted(quad["quad"] for quad in quads)
            raise ValueError(f"environment.json tells of the host in quads {said}, and the {side} ran quads {ran}")
    steal, others = (
        {quad["quad"]: float(quad[name]) for quad in quads if name == "steal_share" or name in quad}
        for name in ("steal_share", "others_share")
    )
    remarks = [reason for reason in result.validity.reasons if not re.match(r"quad \d+: ", reason)]
    return Seen(
        trial=trial, rows=rows, labels=labels, answers=answers, facts=facts, steal=steal, others=others,
        remarks=remarks, allowed=allowed_deviation(result.plan),
    )  # fmt: skip


def findings(result: Result, numbers: Outcome) -> Iterator[Finding]:
    """Every number of ``result`` beside the recomputed one."""
    published = _numbers(
        {"baseline": result.baseline} | ({"candidate": result.candidate} if result.candidate else {}),
        {name: getattr(result, name) for name in COMPARED},
    )
    recomputed = _numbers(
        numbers.sides,
        {name: getattr(numbers, name) for name in COMPARED},
    )
    yield from _disagreements(published, recomputed)
    for name, rate in numbers.latency_qps.items():
        if rate is not None:
            what = f"{name}: 70 % of its LBT over all quads"
            yield _finding(what, published[f"{name}.latency_ms.offered_qps"], rate)
    yield from _segments(result, numbers)


def _compared(published: Mapping[str, Any], recomputed: Mapping[str, Any]) -> Iterator[Finding]:
    """Every leaf of two trees of results."""
    yield from _disagreements(dict(_leaves(to_plain(published))), dict(_leaves(to_plain(recomputed))))


def _disagreements(published: Mapping[str, Leaf], recomputed: Mapping[str, Leaf]) -> Iterator[Finding]:
    for what in dict.fromkeys([*published, *recomputed]):
        yield _finding(what, published.get(what), recomputed.get(what))


def _numbers(sides: Mapping[str, SideResult], others: Mapping[str, Any]) -> dict[str, Leaf]:
    """Every number by its path in result.json, without what no column tells."""
    plain = {name: {k: v for k, v in to_plain(side).items() if k not in SAID} for name, side in sides.items()}
    return dict(_leaves({**plain, **to_plain(others)}))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Leaf]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from _leaves(item, f"{path}.{key}" if path else str(key))


def _segments(result: Result, numbers: Outcome) -> Iterator[Finding]:
    """Counts of all segments as one line, or each segment that disagrees."""
    wrong = False
    for said, found in zip(result.segments, numbers.segments, strict=True):
        if said != found:
            wrong = True
            what = f"late of segment {said.segment} ({said.side}, {said.purpose})"
            yield Finding(what=what, published=_counted(said), recomputed=_counted(found), agrees=False)
    if not wrong:
        total = f"{sum(s.late for s in result.segments)} of {sum(s.queries for s in result.segments)}"
        what = f"late queries of {len(result.segments)} segments"
        yield Finding(what=what, published=total, recomputed=total, agrees=True)


def _counted(info: Any) -> str:
    return f"{info.late} of {info.queries}{', void' if info.voided else ''}"


def _finding(what: str, published: Leaf, recomputed: Leaf) -> Finding:
    numbers = [value for value in (published, recomputed) if isinstance(value, (int, float)) and value is not True]
    if len(numbers) == 2 and not any(isinstance(value, bool) for value in numbers):
        tolerance = ESTIMATE_TOLERANCE if ESTIMATED.search(what) else TOLERANCE
        agrees = math.isclose(numbers[0], numbers[1], rel_tol=tolerance, abs_tol=ROUNDING)
    else:
        agrees = published == recomputed
    return Finding(what=what, published=published, recomputed=recomputed, agrees=agrees)
