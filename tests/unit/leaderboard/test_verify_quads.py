"""Verification of quads and segments: which count, which ran again, and none that is left out or cut."""

from __future__ import annotations

import numpy as np
import pytest

from harness.record.reader import read_record
from tests.unit.leaderboard.disagreements import problems_and_disagreements


def test_void_quads_are_judged_again(with_a_void_quad):
    path = with_a_void_quad
    assert problems_and_disagreements(path) == ([], [])
    result = read_record(path).result
    assert result.validity.reasons == ("quad 2: steal 5.0% of core time, above 2.0%",)
    assert {s.quad for s in result.segments if s.voided} == {2}
    runs = {s.quad: s.trace // 2 for s in result.segments if s.purpose == "quad"}
    assert runs == {**{quad: quad for quad in range(8)}, 8: 2}
    assert len(result.ratio.quads) == 8
    assert result.ratio.lbt_with_voided != result.ratio.lbt and result.ratio.lbt_ci is not None
    assert result.baseline.latency_ms.offered_qps != pytest.approx(0.7 * result.baseline.lbt_qps, rel=1e-6)


def test_a_quad_in_which_others_used_the_cores_is_void(simulate_record, tampered):
    """As by stolen time; a record that hides what they used does not verify."""
    path = simulate_record(quads=4, busy=(1,))
    assert problems_and_disagreements(path) == ([], [])
    result = read_record(path).result
    assert result.validity.reasons == ("quad 1: other processes used 30.0% of core time, above 5.0%",)
    assert {s.quad for s in result.segments if s.voided} == {1}

    def change(environment):
        for quad in environment["run"]["quads"]:
            quad["others_share"] = 0.0

    problems, wrong = problems_and_disagreements(tampered(path, "environment.json", change))
    assert any("quads [1] ran again, and quads [] were void" in problem for problem in problems), (problems, wrong)


@pytest.mark.parametrize("change", [lambda quads: [q for q in quads if q["quad"] not in (1, 2)],
                                    lambda quads: [*quads, quads[0]]], ids=["hidden", "twice"])  # fmt: skip
def test_what_the_host_did_in_a_quad_cannot_be_left_out(simulate_record, tampered, change):
    """Two of six void quads make a noisy host, on which all count. Without a word of them it would be a quiet one."""
    path = simulate_record(quads=6, voided=(1, 2))
    assert read_record(path).result.validity.verdict == "noisy_host"

    def hide(environment):
        environment["run"]["quads"] = change(environment["run"]["quads"])

    problems, _ = problems_and_disagreements(tampered(path, "environment.json", hide))
    assert any("environment.json tells of the host in quads" in problem for problem in problems), problems


def test_one_quad_gives_a_ratio_without_an_interval_and_says_so(simulate_record):
    path = simulate_record(quads=1)
    assert problems_and_disagreements(path) == ([], [])
    result = read_record(path).result
    ratio = result.ratio
    assert (ratio.lbt_ci, ratio.lbt_p) == (
        None,
        None,
    ) and ratio.reason == "one quad, no interval: that takes at least 6"
    assert ratio.lbt == result.candidate.lbt_qps / result.baseline.lbt_qps


def test_a_segment_under_another_quads_number_is_refused(with_a_void_quad, tampered):
    """Moved into the void quad, the candidate's worst segment would not count."""
    path = with_a_void_quad

    def change(result):
        mine = [s for s in result["segments"] if s["side"] == "candidate" and s["purpose"] == "quad"]
        worst = max((s for s in mine if not s["voided"]), key=lambda s: s["late"])
        other = next(s for s in mine if s["quad"] == 2)
        worst["quad"], other["quad"] = 2, worst["quad"]

    problems, _ = problems_and_disagreements(tampered(path, "result.json", change))
    assert any("of quad 2 ran a trace of quad" in problem for problem in problems)


def test_only_void_quads_may_run_again(with_a_void_quad, tampered):
    """The void quad said to have been another one: the one that ran again was good."""
    path = with_a_void_quad

    def change(environment):
        by_quad = {quad["quad"]: quad for quad in environment["run"]["quads"]}
        by_quad[2]["steal_share"], by_quad[5]["steal_share"] = 0.0, 0.05

    problems, _ = problems_and_disagreements(tampered(path, "environment.json", change))
    assert any("quads [2] ran again, and quads [5] were void" in problem for problem in problems)


def test_a_probe_that_was_cut_short_is_no_contradiction(simulate_record):
    """Its last queries were never sent, and the next segment begins before they were planned."""
    path = simulate_record(hesitates=True)
    assert {s.purpose for s in read_record(path).result.segments if s.aborted} == {"search"}
    assert problems_and_disagreements(path) == ([], [])


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
