"""Verification of records that were dressed up: each kind is found, whatever the manifest says."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from harness.record.reader import read_record
from harness.traffic.segment import Status
from leaderboard.verify import verify
from tests.unit.leaderboard.disagreements import problems_and_disagreements


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(rate_qps=1.1 * c["rate_qps"]), "certificate.rate_qps"),
        (lambda c: c["attempts"][-1].update(bound=0.5 * c["attempts"][-1]["bound"]), "bound"),
    ],
    ids=["a higher rate", "a lower bound"],
)
def test_a_certificate_that_was_dressed_up_is_refused(certified, tmp_path, change, said):
    path = tmp_path / certified.name
    shutil.copytree(certified, path)
    data = json.loads((path / "result.json").read_text())
    change(data["certificate"])
    (path / "result.json").write_text(json.dumps(data))
    assert any(said in what for what in problems_and_disagreements(path)[1])


def test_a_changed_late_count_is_named(record, edit):
    def fewer_late(result):
        next(s for s in result["segments"] if s["late"])["late"] = 0

    edit.json("result.json", fewer_late)
    edit.rewrite_manifest()
    problems, (what,) = problems_and_disagreements(record)
    assert problems == [] and what.startswith("late of segment")


def test_a_failed_gate_cannot_be_published_as_passed(record, edit):
    def worse(rows):
        own = (rows["side"] == "candidate") & (rows["run"] == "accuracy")
        rows["score"][own] = np.random.default_rng(1).permutation(rows["score"][own])
        return rows

    edit.columns("predictions.parquet", worse)
    edit.rewrite_manifest()
    assert "gate.verdict" in problems_and_disagreements(record)[1]


def test_a_score_beyond_what_a_closed_plan_declares_fails_the_gate(record, edit):
    def another(rows):
        rows["score"][np.flatnonzero((rows["side"] == "candidate") & (rows["run"] == "accuracy"))[3]] += 2e-2
        return rows

    edit.columns("predictions.parquet", another)
    edit.rewrite_manifest()
    assert {"gate.score_deviation", "gate.verdict"} <= set(problems_and_disagreements(record)[1])


def test_timed_answers_that_differ_fail_the_gate(record, edit):
    def cheaper(rows):
        rows["score"][np.flatnonzero((rows["side"] == "candidate") & (rows["run"] == "timed"))[3]] += 0.01
        return rows

    edit.columns("predictions.parquet", cheaper)
    edit.rewrite_manifest()
    wrong = problems_and_disagreements(record)[1]
    assert {"gate.timed_deviation", "gate.timed_answers", "gate.verdict"} <= set(wrong)


def test_a_baseline_that_answers_otherwise_while_it_is_timed_voids_the_result(record, edit):
    """No gate covers it: a ratio to it, and its own rank, would rest on answers that it did not give."""
    columns = read_record(record).predictions()
    asked = np.flatnonzero((columns["side"] == "baseline") & (columns["run"] == "timed"))

    def otherwise(rows):
        rows["score"][asked[[3, 5]]] += 2e-6
        return rows

    edit.columns("predictions.parquet", otherwise)
    edit.rewrite_manifest()
    found = {finding.what: finding.recomputed for finding in verify(record).findings if not finding.agrees}
    assert found["validity.verdict"] == "void"
    assert found["validity.reasons.0"] == (
        f"2 of {len(asked)} timed answers of the baseline differ from its accuracy run by more than 1e-06"
    )


def test_an_unanswered_query_is_late_whatever_its_stamps_say(record, edit):
    def failing(rows):
        rows["status"][rows["side"] == "baseline"] = Status.FAILED
        return rows

    edit.columns("queries.parquet", failing)
    edit.rewrite_manifest()
    problems, wrong = problems_and_disagreements(record)
    assert problems or any(what.startswith("late of segment") for what in wrong)


def test_labels_that_differ_between_sides_are_refused(record, edit):
    def kinder(rows):
        rows["label"][np.flatnonzero(rows["side"] == "candidate")[:9]] = 1.0
        return rows

    edit.columns("predictions.parquet", kinder)
    edit.rewrite_manifest()
    assert any("labels of the candidate differ" in problem for problem in problems_and_disagreements(record)[0])


def test_a_tolerance_cannot_be_widened_without_an_optimization_that_claims_it(record, edit):
    def wider(result):
        result["candidate"].update(dtypes=["int8"])
        result["plan"] = [line for line in result["plan"] if line["name"] != "bf16"]

    edit.json("result.json", wider)
    edit.rewrite_manifest()
    assert any("no optimization claims .dtype" in problem for problem in problems_and_disagreements(record)[0])


def test_a_record_without_traces_is_refused_and_told_why(record, edit):
    """As an earlier version wrote it."""

    def older(result):
        for segment in result["segments"]:
            del segment["trace"], segment["sizes"], segment["seconds"], segment["asked"]

    edit.json("result.json", older)
    edit.rewrite_manifest()
    assert any("an earlier version wrote it" in problem for problem in problems_and_disagreements(record)[0])
