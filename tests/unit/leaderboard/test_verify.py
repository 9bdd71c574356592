"""Verification: a record that is as published passes; each kind of dressed-up number is found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from harness.record.reader import read_record
from harness.record.writer import RecordWriter
from leaderboard.result_check import check_result
from leaderboard.verify import verify


@pytest.fixture
def forged(tmp_path, fabricate):
    """Write a record whose result or columns were changed before the manifest was made."""

    def write(result=lambda r: r, queries=lambda q: q, predictions=lambda p: p):
        trial, measurement = fabricate()
        measurement = dataclasses.replace(
            measurement,
            result=result(measurement.result),
            queries=queries(dict(measurement.queries)),
            predictions=predictions(dict(measurement.predictions)),
        )
        with RecordWriter(tmp_path, trial) as writer:
            return writer.write(measurement)

    return write


def disagreements(path):
    return [finding.what for finding in verify(path).findings if not finding.agrees]


def test_an_honest_record_passes_and_agrees_with_other_libraries(forged):
    path = forged()
    verification = verify(path)
    assert verification.passed and verification.problems == []
    found = {finding.what: finding.recomputed for finding in verification.findings}
    record = read_record(path)
    columns = record.predictions()
    rows = (columns["side"] == "candidate") & (columns["run"] == "accuracy")
    labels, scores = columns["label"][rows], columns["score"][rows].astype(np.float64)
    assert found["candidate.auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["candidate.logloss"] == pytest.approx(log_loss(labels, scores), abs=1e-12)
    assert found["candidate.pcoc"] == pytest.approx(scores.mean() / labels.astype(np.float64).mean(), rel=1e-12)
    queries = record.queries()
    segment = next(s for s in record.result.segments if s.side == "candidate" and s.purpose == "latency")
    taken = sorted(
        (queries["done_ns"][i] - queries["planned_ns"][i]) / 1e6
        for i in range(len(queries["segment"]))
        if queries["segment"][i] == segment.segment and queries["planned_ns"][i] >= segment.counted_from_ns
    )
    assert found["candidate.latency_ms.p99"] == taken[-(-99 * (len(taken) - 1) // 100)]


def change_side(name, **changes):
    return lambda r: dataclasses.replace(r, **{name: dataclasses.replace(getattr(r, name), **changes)})


def faster(result):
    latency = dataclasses.replace(result.candidate.latency_ms, p99=result.candidate.latency_ms.p90)
    return change_side("candidate", latency_ms=latency)(result)


def fewer_late(result):
    index = next(i for i, s in enumerate(result.segments) if s.late > 0)
    segments = list(result.segments)
    segments[index] = dataclasses.replace(segments[index], late=0)
    return dataclasses.replace(result, segments=tuple(segments))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (change_side("candidate", auc=0.9), ["candidate.auc"]),
        (change_side("baseline", logloss=0.1), ["baseline.logloss"]),
        (change_side("candidate", pcoc=1.0), ["candidate.pcoc"]),
        (change_side("gate", auc_delta=0.0, auc_delta_ci=(-1e-9, 1e-9)), ["gate.auc_delta", "gate.auc_delta_ci.low",
                                                                          "gate.auc_delta_ci.high"]),
        (change_side("gate", timed_deviation=1e-7), ["gate.timed_deviation"]),
        (faster, ["candidate.latency_ms.p99"]),
    ],
)  # fmt: skip
def test_a_changed_number_is_named(forged, change, found):
    assert sorted(disagreements(forged(result=change))) == sorted(found)


def test_a_changed_late_count_is_named(forged):
    (what,) = disagreements(forged(result=fewer_late))
    assert what.startswith("late of segment")


def test_a_failed_gate_cannot_be_published_as_passed(forged):
    def worse(columns):
        rows = (columns["side"] == "candidate") & (columns["run"] == "accuracy")
        scores = columns["score"].copy()
        scores[rows] = np.random.default_rng(1).permutation(scores[rows])
        return columns | {"score": scores}

    assert "gate.verdict" in disagreements(forged(predictions=worse))


def test_timed_answers_that_differ_fail_the_gate(forged):
    def cheaper(columns):
        rows = np.flatnonzero((columns["side"] == "candidate") & (columns["run"] == "timed"))
        scores = columns["score"].copy()
        scores[rows[3]] += 0.01
        return columns | {"score": scores}

    assert disagreements(forged(predictions=cheaper)) == ["gate.timed_deviation", "gate.verdict"]


def test_an_unanswered_query_is_late_whatever_its_stamps_say(forged):
    def failing(columns):
        status = columns["status"].copy()
        status[columns["side"] == "baseline"] = 1
        return columns | {"status": status}

    wrong = disagreements(forged(queries=failing))
    assert "baseline.latency_ms.p50" in wrong and wrong[-1].startswith("late of segment")


def test_harmed_files_are_problems(forged):
    path = forged()
    (path / "predictions.parquet").write_bytes(b"nothing")
    verification = verify(path)
    assert not verification.passed
    assert any("predictions.parquet was changed" in problem for problem in verification.problems)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(trial_id="xyz"), "trial_id is 'xyz', expected 12 hexadecimal digits"),
        (lambda d: d.update(schema_version=99), "schema_version 99 is newer"),
        (lambda d: d["trial"]["sla"].update(limit_ms=0), "trial.sla.limit_ms is 0"),
        (lambda d: d["baseline"].update(auc=1.2), "baseline.auc is 1.2"),
        (lambda d: d["baseline"].update(lbt_ci=[1.0, 2.0]), "baseline.lbt_ci is [1.0, 2.0], which does not hold 120.0"),
        (lambda d: d["candidate"].update(lbt_status="unreachable"), "candidate.lbt_status is unreachable with"),
        (lambda d: d["candidate"]["latency_ms"].update(p50=1e9), "candidate.latency_ms falls"),
        (lambda d: d["ratio"].update(lbt=None, lbt_ci=None), "ratio.lbt is null without a reason"),
        (lambda d: d.update(gate=None), "candidate, ratio and gate must be there together"),
        (lambda d: d["plan"].clear(), "plan and trial.opts name different optimizations"),
        (lambda d: d["segments"][0].update(late=10**6), "segment 0: 1000000 late of"),
        (lambda d: d["floor"].pop("lbt_qps"), "floor.lbt_qps is missing"),
    ],
)
def test_schema_and_sense(fabricate, change, sentence):
    data = fabricate()[1].result.to_dict()
    assert check_result(data) == []
    change(data)
    problems = check_result(data)
    assert len(problems) == 1 and problems[0].startswith(sentence)
