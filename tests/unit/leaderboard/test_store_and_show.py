"""The board: who is ranked, in which order, and what is said of the others."""

from __future__ import annotations

import dataclasses

import pytest

from harness.record.reader import read_record
from harness.record.writer import RecordWriter
from harness.trial import Sla
from leaderboard.show import board_view, ranks, record_view
from leaderboard.store import load_board, reasons_against
from tests.rendered import text_of


@pytest.fixture
def board(tmp_path, fabricate):
    trials = [
        {"opts": {}},
        {"opts": {"fusion": {}}, "speedup": 2.0},
        {"opts": {"bf16": {}}, "speedup": 3.0, "budget": "smoke"},
        {"opts": {"bf16": {}, "fusion": {}}, "speedup": 2.4},
        {"opts": {"tf32": {}}, "speedup": 4.0, "shift": 0.3},
        {"model": "wdl", "sla": Sla(limit_ms=25.0), "lbt": 300.0, "opts": {}},
        {"opts": {"fusion": {}}, "hardware": "another"},
        {"opts": {"executor": {}}, "backend": "onnxruntime", "speedup": 1.5},
    ]
    for fields in trials:
        trial, measurement = fabricate(**fields)
        with RecordWriter(tmp_path, trial) as writer:
            writer.write(measurement)
    broken = tmp_path / "2026-03-01T12-00-00Z_broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    return load_board(tmp_path)


def test_groups_are_workloads_and_ranks_are_by_throughput(board):
    groups = {(w.model, w.hardware_class): list(ranks(entries)) for w, entries in board.groups.items()}
    assert set(groups) == {("dien", "x86_64-2c-avx512"), ("dien", "another"), ("wdl", "x86_64-2c-avx512")}
    seen = [(rank, entry.result.plan_name, round(entry.lbt_qps)) for rank, entry in groups["dien", "x86_64-2c-avx512"]]
    assert seen == [
        ("1", "[bf16*,fusion]", 288),
        ("2", "[fusion]", 240),
        ("3", "onnxruntime [executor]", 180),
        ("4", "[]", 120),
        ("-", "[bf16*]", 360),
        ("-", "[tf32]", 480),
    ]
    reasons = {e.result.plan_name: e.unranked for _, e in groups["dien", "x86_64-2c-avx512"]}
    assert reasons["[bf16*]"] == ("budget smoke",) and reasons["[tf32]"] == ("accuracy gate failed",)
    assert list(board.unreadable.values()) == [f"{p}/trial.json is missing" for p in board.unreadable]


def test_views_hold_the_numbers(board):
    shown = text_of(board_view(board))
    assert "288 [276, 300]" in shown and "2.40 [2.28, 2.52]" in shown and "accuracy gate failed" in shown
    entry = next(iter(board.groups.values()))[0]
    single = text_of(record_view(read_record(entry.path)))
    result = entry.result
    assert result.trial_id in single and f"{result.measured.auc:.5f}" in single
    assert "fallback: top.1.impl" in single and f"slack: baseline {result.baseline.slack:.2f}" in single


def test_an_empty_board_says_so(tmp_path):
    assert text_of(board_view(load_board(tmp_path / "nothing"))).strip() == "no records"


def test_each_reason_against_a_rank(fabricate):
    result = fabricate()[1].result
    assert reasons_against(result, []) == ()

    def with_(**changes):
        return dataclasses.replace(result, **changes)

    few = dataclasses.replace(result.candidate, lbt_status="few_clumps")
    assert reasons_against(with_(candidate=few), []) == ()
    cases = [
        (with_(trial={**result.trial, "budget": "quick,quads=7"}), "budget quick,quads=7"),
        (with_(validity=dataclasses.replace(result.validity, verdict="noisy_host")), "noisy host"),
        (with_(floor=dataclasses.replace(result.floor, referee_bound=True)), "bound by the referee"),
        (with_(baseline=dataclasses.replace(result.baseline, slack=1.99)), "baseline slack 1.99 below 2"),
        (with_(candidate=dataclasses.replace(result.candidate, lbt_status="beyond_range")), "LBT beyond range"),
    ]
    for changed, reason in cases:
        assert reasons_against(changed, []) == (reason,)
    assert reasons_against(result, ["x was changed"]) == ("record: x was changed",)
