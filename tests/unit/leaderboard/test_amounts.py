"""Verification of how much was asked and for how long: a segment that is cut and described as shorter is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.record.floor import NULL_PROBES
from harness.record.reader import read_record
from harness.record.service import ROUND, offline_queries, paired_queries, service_queries, single_stream_queries
from tests.unit.leaderboard.disagreements import problems_and_disagreements

Segment = dict[str, Any]


def cut(edit: Any, chosen: Callable[[Segment], bool], keep: Callable[[np.ndarray], int], **said: Any) -> None:
    """Of the chosen segments the first queries stay, ``keep`` of their service times; the description agrees."""
    segments = [s for s in edit.read("result.json")["segments"] if chosen(s)]
    assert segments
    left: dict[int, int] = {}

    def columns(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inside = np.ones(len(rows["segment"]), bool)
        for segment in segments:
            of = np.flatnonzero(rows["segment"] == segment["segment"])
            count = left[segment["segment"]] = int(keep((rows["done_ns"] - rows["sent_ns"])[of]))
            inside[of[count:]] = False
        return {name: column[inside] for name, column in rows.items()}

    def describe(result: dict[str, Any]) -> None:
        for segment in result["segments"]:
            if segment["segment"] in left:
                segment.update({"asked": left[segment["segment"]], **said})

    edit.columns("queries.parquet", columns)
    edit.json("result.json", describe)
    edit.rewrite_manifest()


def of(side: str, purpose: str, *traces: int) -> Callable[[Segment], bool]:
    return lambda s: (s["side"], s["purpose"]) == (side, purpose) and (not traces or s["trace"] in traces)


def until_the_slowest(service_ns: np.ndarray) -> int:
    return max(int(np.argmax(service_ns)), 1)


def test_the_slowest_query_behind_the_slack_cannot_be_left_out(record: Path, edit: Any) -> None:
    """50 queries of 100 samples in each round by ``quick``, and four times as many of the largest size."""
    cut(edit, of("baseline", "service", 100, ROUND + 100), until_the_slowest)
    problems, _ = problems_and_disagreements(record)
    assert any("baseline, service: trace 100 asked" in problem and "asks 100" in problem for problem in problems)


@pytest.mark.parametrize("trace", [ROUND + 7, 2 * ROUND + 1])
def test_no_service_segment_can_be_added(record: Path, edit: Any, trace: int) -> None:
    """One of a size or a round that nobody asks for would speak for the table."""

    def another(result: dict[str, Any]) -> None:
        (segment,) = filter(of("candidate", "service", ROUND + 1), result["segments"])
        segment["trace"] = trace

    edit.json("result.json", another)
    edit.rewrite_manifest()
    problems, _ = problems_and_disagreements(record)
    assert f"candidate, service: nobody asks for segments of traces [{trace}]" in problems


@pytest.mark.parametrize("purpose", ["paired", "single_stream", "offline"])
def test_a_closed_loop_cannot_be_said_to_have_asked_less(record: Path, edit: Any, purpose: str) -> None:
    cut(edit, of("candidate", purpose), lambda service_ns: 3)
    problems, _ = problems_and_disagreements(record)
    assert any(f"candidate, {purpose}: trace" in problem and "were dropped or added" in problem for problem in problems)


def test_a_loop_that_is_bound_by_time_cannot_be_given_less_of_it(record: Path, edit: Any) -> None:
    def shorter(result: dict[str, Any]) -> None:
        for segment in filter(of("candidate", "offline"), result["segments"]):
            segment["seconds"] *= 0.2

    edit.json("result.json", shorter)
    edit.rewrite_manifest()
    problems, _ = problems_and_disagreements(record)
    assert any("candidate, offline: trace 0 had" in problem for problem in problems)


@pytest.mark.parametrize("trace", [0, NULL_PROBES + 2])
def test_a_probe_of_the_null_system_cannot_be_cut_before_it_stalled(record: Path, edit: Any, trace: int) -> None:
    (probe,) = (s for s in edit.read("result.json")["segments"] if of("floor", "floor", trace)(s))
    start = probe["counted_from_ns"] - 1_000_000_000
    short = {"seconds": 0.05, "counted_to_ns": start + 50_000_000}
    queries = read_record(record).queries()
    planned = queries["planned_ns"][queries["segment"] == probe["segment"]]
    left = int(np.count_nonzero(planned < start + 50_000_000))
    assert 0 < left < len(planned)
    cut(edit, of("floor", "floor", trace), lambda service_ns: left, **short)
    problems, _ = problems_and_disagreements(record)
    assert any(f"floor, floor: trace {trace} did not last as long as" in problem for problem in problems)


def test_new_and_known_queries_are_as_many_in_every_segment(record: Path, edit: Any) -> None:
    named = {s["purpose"] for s in edit.read("result.json")["segments"]}
    assert {"new", "known"} <= named
    cut(edit, of("candidate", "new", 1), lambda service_ns: 8)
    problems, _ = problems_and_disagreements(record)
    assert "segments of new and known queries asked unequally many" in problems


def test_counts_by_hand() -> None:
    """``quick`` repeats 50 times: 25 of a size in each of two rounds, 100 of the largest, and 100 of the mix."""
    assert service_queries(50) == {1: 25, 10: 25, 32: 25, 100: 100, 500: 100}
    assert [paired_queries(ms * 1e6) for ms in (0.1, 2.0, 10.0, 100.0)] == [200, 150, 30, 10]
    assert single_stream_queries(1.0, 3e6) == 500 and single_stream_queries(1.0, 1e9) == 64
    assert offline_queries(2.0, 2, np.array([4e6, 4e6, 9e9])) == 2000


def test_a_budget_that_nobody_knows_is_a_problem(record: Path, edit: Any) -> None:
    for name in ("trial.json", "result.json"):
        data = json.loads((record / name).read_text())
        (data if name == "trial.json" else data["trial"])["budget"] = "quick,quads=x"
        (record / name).write_text(json.dumps(data))
    edit.rewrite_manifest()
    assert any("is not a budget" in problem for problem in problems_and_disagreements(record)[0])
