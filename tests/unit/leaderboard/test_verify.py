"""Verification: every number is recomputed by the run's own functions, and each kind of dressed-up number is found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from harness.record.reader import read_record
from harness.record.result import Result
from leaderboard.amount_check import budget_of
from leaderboard.verify import SAID, findings, verify
from tests.unit.leaderboard.disagreements import problems_and_disagreements

BLOCKS = ("baseline", "candidate", "ratio", "gate", "floor", "validity")


@pytest.fixture(scope="module")
def recomputed(measured):
    """The record's own result as a dictionary, and what verification recomputed."""
    from harness.measurement.outcome import outcome
    from harness.record.jsonable import from_plain
    from harness.record.segments import cut
    from harness.trial import Trial
    from leaderboard.verify import _seen

    record = read_record(measured)
    rows = cut(record.result.segments, record.queries())
    return record.result.to_dict(), outcome(_seen(record, from_plain(Trial, record.trial), rows))


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from leaves(item, (*path, key))


def other(value):
    """The opposite, the next whole number, or three millionths more."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * (1 + 3e-6) + 1e-11


def test_every_number_of_the_result_is_compared(recomputed):
    """One number after the other is changed a little more than the tolerance allows."""
    data, numbers = recomputed
    changed = 0
    for block in BLOCKS:
        for path, value in leaves(data[block], (block,)):
            if path[1] in SAID or isinstance(value, str) or value is None:
                continue
            forged = {**data, block: copy.deepcopy(data[block])}
            place = forged
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = other(value)
            wrong = [f.what for f in findings(Result.from_dict(forged), numbers) if not f.agrees]
            assert ".".join(map(str, path)) in wrong, path
            changed += 1
    assert changed > 70


def test_what_the_other_tests_tamper_with_is_there(recomputed):
    data, numbers = recomputed
    assert data["ratio"]["lbt_ci"][0] > 1.0 and data["ratio"]["service"] == pytest.approx(2.0, rel=0.01)
    assert data["floor"]["lbt_qps"] > 5 * data["candidate"]["lbt_qps"]
    late = {side: sum(s.late for s in numbers.segments if s.side == side) for side in ("baseline", "candidate")}
    assert min(late.values()) >= 20


def test_numbers_agree_with_other_libraries(measured):
    verification = verify(measured)
    assert verification.passed
    found = {finding.what: finding.recomputed for finding in verification.findings}
    record = read_record(measured)
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
    service = [
        (queries["done_ns"][i] - queries["sent_ns"][i]) / 1e6
        for s in record.result.segments
        if s.side == "baseline" and s.purpose == "service" and s.sizes == "fixed:32"
        for i in np.flatnonzero(queries["segment"] == s.segment)
    ]
    assert len(service) == 50
    assert found["baseline.service_ms.n32"] == pytest.approx(np.median(service), rel=1e-12)


def test_a_certificate_is_judged_again(certified):
    assert problems_and_disagreements(certified) == ([], [])
    result = read_record(certified).result
    side, certificate = result.candidate, result.certificate
    assert certificate.verdict == "pass"
    assert certificate.attempts[0].rate_qps == pytest.approx(min(side.lbt_ci[0], 0.95 * side.lbt_qps), rel=1e-9)
    assert certificate.rate_qps == pytest.approx(
        certificate.attempts[0].rate_qps * 0.97 ** (len(certificate.attempts) - 1)
    )
    assert {s.side for s in result.segments if s.purpose == "certificate"} == {"candidate"}


@pytest.mark.parametrize(
    "fields",
    [{"opts": {}}, {"scenario": "single_stream"}, {"scenario": "offline"}, {"query_sizes": "fixed:32"}],
    ids=["baseline alone", "single_stream", "offline", "fixed sizes"],
)
def test_records_of_every_kind_pass(simulate_record, fields):
    path = simulate_record(**fields)
    assert problems_and_disagreements(path) == ([], [])
    result = read_record(path).result
    assert result.baseline.single_stream_ms.queries > 0 or fields.get("scenario") == "offline"
    assert result.baseline.offline_samples_per_s > 0


def test_budgets_are_read_by_name():
    assert budget_of("quick,quads=8").quads == 8
    assert budget_of("smoke").name == "smoke"
