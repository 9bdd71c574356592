"""A query that is refused is late and fails the gate: else it would pay to refuse those that cost most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from harness.measurement.bench import Bench, ClosedStretch
from harness.measurement.evidence import Answers, Evidence, answers_from
from harness.measurement.gate import gate_result
from harness.options import BUDGETS
from harness.traffic.arrivals import Queries
from harness.traffic.segment import Segment, Status
from zoo.schema import Float32, Split

MS = 1_000_000
COUNT, REFUSED = 40, 7


@dataclass
class OneOdd:
    """A referee whose side answers as in the accuracy run, but for one query."""

    scores: Float32
    status: Status

    def cpu_ns(self, name: str) -> int:
        return 0

    def liberties(self, name: str) -> tuple[str, ...]:
        return ()

    def thaw(self, name: str) -> None:
        pass

    freeze = thaw

    def run_closed(self, name: str, split: Split, queries: Queries, concurrency: int, budget_s: float) -> Segment:
        numbers = np.arange(len(queries), dtype=np.int64)
        status = np.where(numbers == REFUSED, self.status, Status.ANSWERED)
        scores = np.where(np.repeat(status == Status.ANSWERED, queries.sizes), self.scores[queries.samples], np.nan)
        return Segment(
            side=name,
            mode="closed",
            offered_qps=float("nan"),
            query_id=numbers,
            size=queries.sizes,
            planned_ns=MS * numbers,
            sent_ns=MS * numbers,
            done_ns=MS * numbers + 1000,
            status=status.astype(np.int64),
            dequeued_ns=numbers,
            started_ns=numbers,
            worker=0 * numbers,
            scores=scores.astype(np.float32),
            score_offsets=queries.offsets,
            aborted="",
            duplicates=0,
            sender_cpu_ns=0,
        )


def _asked(split: Split, fabricate: Callable[..., Any], status: Status) -> Bench:
    rng = np.random.default_rng(3)
    scores = np.where(split.labels > 0, 0.6, 0.4) + rng.uniform(-0.3, 0.3, len(split))
    scores = (scores * split.labels.mean() / scores.mean()).astype(np.float32)
    bench = Bench(
        trial=fabricate()[0],
        budget=BUDGETS["smoke"],
        referee=OneOdd(scores, status),  # type: ignore[arg-type]
        split=split,
        evidence=Evidence(answers={name: Answers.of(scores.copy()) for name in ("baseline", "candidate")}),
        observer=Mock(),
    )
    for name in ("baseline", "candidate"):
        bench.joined(name)
        bench.closed_loop(name, ClosedStretch(purpose="paired", index=0, count=COUNT, seconds=1.0))
    return bench


@pytest.mark.parametrize(
    "status", [Status.FAILED, Status.WRONG_LENGTH, Status.NOT_FINITE, Status.WRONG_SEQUENCE], ids=lambda s: s.name
)
def test_one_query_that_is_refused_while_the_clock_runs_fails_the_gate(
    split: Split, fabricate: Callable[..., Any], status: Status
) -> None:
    bench = _asked(split, fabricate, status)
    size = bench.trace("paired", 0, COUNT).sizes[REFUSED]
    result = gate_result(split.labels, bench.evidence.answers, ("fp32",), None)
    assert (result.verdict, result.timed_answers) == ("fail", "fail")
    assert np.count_nonzero(np.isinf(bench.evidence.answers["candidate"].deviation)) == size
    asked = np.count_nonzero(bench.evidence.answers["candidate"].deviation >= 0.0)
    assert result.reasons[0] == (
        f"{size} of {asked} timed answers differ from the accuracy run by more than 1e-06 (some are no answers at all)"
    )
    labels, read_back = answers_from(bench.evidence.predictions(split.labels))
    assert gate_result(labels, read_back, ("fp32",), None) == result


@pytest.mark.parametrize("status", [Status.DROPPED, Status.UNFINISHED], ids=lambda s: s.name)
def test_a_query_that_got_no_answer_is_late_and_nothing_else(
    split: Split, fabricate: Callable[..., Any], status: Status
) -> None:
    bench = _asked(split, fabricate, status)
    assert gate_result(split.labels, bench.evidence.answers, ("fp32",), None).verdict == "pass"
