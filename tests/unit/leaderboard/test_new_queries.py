"""A simulated system that remembers what it was asked, beside one that computes: what the record and the board say."""

from __future__ import annotations

import pytest
from rich.console import Console

from harness.console.report import result_table
from harness.errors import ExitCode
from harness.record.reader import read_record
from leaderboard.store import reasons_against
from tests.unit.leaderboard.disagreements import problems_and_disagreements


def shown(result):
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(result_table(result))
    return capture.get()


def test_a_system_that_computes_gains_as_much_on_new_queries(measured):
    """Twice as fast on both, with 5 % of noise in each answer."""
    result = read_record(measured).result
    assert result.ratio.service_new == pytest.approx(2.0, rel=0.06)
    assert result.ratio.service_known == pytest.approx(2.0, rel=0.06)
    assert result.ratio.doubt == "" and "doubt" not in shown(result) and reasons_against(result, []) == ()
    assert {(s.purpose, s.trace, s.sizes) for s in result.segments if s.purpose in ("new", "known")} == {
        *(("new", trace, "fixed:20") for trace in range(4)),
        *(("known", trace, "fixed:20") for trace in range(5)),
    }


def test_one_that_remembers_is_doubted_and_has_no_rank(simulate_record):
    """It takes a fifth of the time for what it knows: ten times as fast there, and twice as fast on new queries."""
    path = simulate_record(quads=1, remembers=True)
    result = read_record(path).result
    assert result.ratio.service_new == pytest.approx(2.0, rel=0.06)
    assert result.ratio.service_known == pytest.approx(10.0, rel=0.06)
    assert result.ratio.doubt.endswith("the candidate may remember answers")
    assert "doubt: beside the baseline the candidate is" in shown(result)
    assert "may remember answers" in reasons_against(result, []) and result.exit_code == ExitCode.OK
    assert problems_and_disagreements(path) == ([], [])


def test_a_side_cannot_leave_its_new_queries_out(record, edit):
    def elsewhere(result):
        (segment,) = [s for s in result["segments"] if (s["side"], s["purpose"], s["trace"]) == ("candidate", "new", 1)]
        segment["trace"] = 9

    edit.json("result.json", elsewhere)
    edit.rewrite_manifest()
    assert "candidate, new: the segments of traces [1] are missing" in problems_and_disagreements(record)[0]
