"""Verification: every number is recomputed by the run's own functions, and each kind of dressed-up number is found."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from harness.record.reader import read_record
from harness.record.result import Result
from harness.traffic.segment import Status
from leaderboard.trace_check import budget_of
from leaderboard.verify import SAID, findings, verify

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
    assert sum(segment.late for segment in numbers.segments) > 100


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


def test_void_quads_are_judged_again(with_a_void_quad):
    assert problems_and_disagreements(with_a_void_quad) == ([], [])
    result = read_record(with_a_void_quad).result
    assert result.validity.reasons == ("quad 2: steal 5.0% of core time, above 2.0%",)
    assert {s.quad for s in result.segments if s.voided} == {2}
    runs = {s.quad: s.trace // 2 for s in result.segments if s.purpose == "quad"}
    assert runs == {**{quad: quad for quad in range(8)}, 8: 2}
    assert len(result.ratio.quads) == 8
    assert result.ratio.lbt_with_voided != result.ratio.lbt and result.ratio.lbt_ci is not None
    assert result.baseline.latency_ms.offered_qps != pytest.approx(0.7 * result.baseline.lbt_qps, rel=1e-6)


def test_a_segment_under_another_quads_number_is_refused(with_a_void_quad, tampered):
    """Moved into the void quad, the candidate's worst segment would not count."""

    def change(result):
        mine = [s for s in result["segments"] if s["side"] == "candidate" and s["purpose"] == "quad"]
        worst = max((s for s in mine if not s["voided"]), key=lambda s: s["late"])
        other = next(s for s in mine if s["quad"] == 2)
        worst["quad"], other["quad"] = 2, worst["quad"]

    problems, _ = problems_and_disagreements(tampered(with_a_void_quad, "result.json", change))
    assert any("of quad 2 ran a trace of quad" in problem for problem in problems)


def test_only_void_quads_may_run_again(with_a_void_quad, tampered):
    """The void quad said to have been another one: the one that ran again was good."""

    def change(environment):
        by_quad = {quad["quad"]: quad for quad in environment["run"]["quads"]}
        by_quad[2]["steal_share"], by_quad[5]["steal_share"] = 0.0, 0.05

    problems, _ = problems_and_disagreements(tampered(with_a_void_quad, "environment.json", change))
    assert any("quads [2] ran again, and quads [5] were void" in problem for problem in problems)


def test_a_probe_that_was_cut_short_is_no_contradiction(simulate_record):
    """Its last queries were never sent, and the next segment begins before they were planned."""
    path = simulate_record(hesitates=True)
    assert {s.purpose for s in read_record(path).result.segments if s.aborted} == {"search"}
    assert problems_and_disagreements(path) == ([], [])


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


@pytest.mark.parametrize("scenario", ["single_stream", "offline"])
def test_other_scenarios_are_measured_in_the_quads_that_count(simulate_record, scenario):
    """One of eight is void; what is asked after the quads, one side after the other, is no part of the comparison."""
    path = simulate_record(scenario=scenario, quads=8, voided=(2,))
    assert problems_and_disagreements(path) == ([], [])
    record = read_record(path)
    result, queries = record.result, record.queries()
    found = {}
    for side in ("baseline", "candidate"):
        counted = [
            queries["segment"] == s.segment
            for s in result.segments
            if (s.side, s.purpose, s.voided) == (side, scenario, False) and s.quad >= 0
        ]
        assert len(counted) == 2 * 8
        columns = [{name: column[rows] for name, column in queries.items()} for rows in counted]
        span_ns = sum(int(c["done_ns"].max() - c["sent_ns"].min()) for c in columns)
        found[side] = sum(int(c["size"].sum()) for c in columns) / (span_ns / 1e9)
        if scenario == "single_stream":
            assert getattr(result, side).single_stream_ms.queries == sum(len(c["size"]) for c in columns)
        else:
            assert getattr(result, side).offline_samples_per_s == pytest.approx(found[side], rel=1e-12)
    if scenario == "offline":
        assert result.ratio.offline == pytest.approx(found["candidate"] / found["baseline"], rel=1e-12)


def problems_and_disagreements(path):
    verification = verify(path)
    return verification.problems, [finding.what for finding in verification.findings if not finding.agrees]


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


def test_a_whole_quad_cannot_be_left_out(record, edit):
    """A bad quad goes from columns and result, and the segments are numbered anew."""
    gone = {s["segment"] for s in edit.read("result.json")["segments"] if s["quad"] == 5}
    kept = [s["segment"] for s in edit.read("result.json")["segments"] if s["segment"] not in gone]
    number = {old: new for new, old in enumerate(kept)}

    def columns(rows):
        inside = ~np.isin(rows["segment"], list(gone))
        rows = {name: column[inside] for name, column in rows.items()}
        return rows | {"segment": np.array([number[old] for old in rows["segment"].tolist()])}

    def segments(result):
        left = [s for s in result["segments"] if s["segment"] in number]
        result["segments"] = [{**s, "segment": number[s["segment"]]} for s in left]

    edit.columns("queries.parquet", columns)
    edit.json("result.json", segments)
    edit.rewrite_manifest()
    problems = problems_and_disagreements(record)[0]
    assert "candidate, quad: the segments of traces [10, 11] are missing" in problems


def test_the_end_of_a_segment_cannot_be_cut_off_as_if_less_had_been_asked(record, edit):
    """The last second of one refined segment goes, and everything that is said of it agrees."""
    wanted = ("candidate", "quad", 4)
    segment = next(s for s in edit.read("result.json")["segments"] if (s["side"], s["purpose"], s["trace"]) == wanted)
    number, end = segment["segment"], segment["counted_to_ns"] - 1_000_000_000

    def columns(rows):
        kept = (rows["segment"] != number) | (rows["planned_ns"] < end)
        return {name: column[kept] for name, column in rows.items()}

    def shorter(result):
        mine, rows = result["segments"][number], read_record(record).queries()
        count = int(np.count_nonzero((rows["segment"] == number) & (rows["planned_ns"] < end)))
        mine.update(seconds=mine["seconds"] - 1.0, counted_to_ns=end, asked=count, queries=count)

    edit.json("result.json", shorter)
    edit.columns("queries.parquet", columns)
    edit.rewrite_manifest()
    problems = problems_and_disagreements(record)[0]
    assert "quad 2: its segments of trace 4 did not last as long as budget=quick says" in problems


def test_a_sixth_quad_is_there_again_when_one_of_six_is_void(simulate_record):
    path = simulate_record(voided=(1,))
    assert problems_and_disagreements(path) == ([], [])
    ratio = read_record(path).result.ratio
    assert len(ratio.quads) == 6 and ratio.lbt_ci[0] < ratio.lbt < ratio.lbt_ci[1]


def test_a_quad_cannot_be_measured_twice_beyond_a_quarter_of_all(record, edit):
    """Two of six said to be repeats of others."""

    def more(result):
        for segment in result["segments"]:
            if segment["quad"] in (4, 5):
                segment["quad"] += 2

    edit.json("result.json", more)
    edit.rewrite_manifest()
    assert any("more than void quads allow" in problem for problem in problems_and_disagreements(record)[0])


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


def test_budgets_are_read_by_name():
    assert budget_of("quick,quads=8").quads == 8
    assert budget_of("smoke").name == "smoke"
