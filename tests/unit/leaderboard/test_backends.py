"""The table of models on backends: the newest comparable record of each cell, two rows each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigurationError
from harness.record.result import Result
from leaderboard.backends import HEADINGS, MARK, matrix
from leaderboard.pages import into_page, marks
from leaderboard.store import Entry

Fabricated = Callable[..., tuple[Any, Any]]


def result_of(fabricate: Fabricated, export_s: float | None = None, **fields: Any) -> Result:
    result: Result = fabricate(**fields)[1].result
    sides = {"baseline": result.baseline, "candidate": result.candidate}
    exported = {name: dataclasses.replace(side, export_s=export_s) for name, side in sides.items() if side is not None}
    return dataclasses.replace(result, **exported)


def test_each_cell_has_its_newest_record_as_it_comes_and_by_its_plan(fabricate: Fabricated) -> None:
    onnx = {"backend": "onnxruntime", "opts": {"executor": {}}}
    results = [
        result_of(fabricate, lbt=300.0, created="2026-03-03T12:00:00Z", export_s=9.5, **onnx),
        result_of(fabricate, lbt=200.0, created="2026-03-02T12:00:00Z", export_s=8.5, **onnx),
        result_of(fabricate, lbt=100.0, speedup=5.0, created="2026-03-01T12:00:00Z"),
        result_of(fabricate, lbt=50.0, hardware="another", created="2026-02-01T12:00:00Z", backend="openvino"),
        result_of(fabricate, opts={}, created="2026-03-04T12:00:00Z"),
    ]
    head, _, *rows = (line.strip("| ").split(" | ") for line in matrix(map(ranked, results)).splitlines())
    assert tuple(head) == HEADINGS and all(len(row) == len(HEADINGS) for row in rows)
    assert [row[:3] for row in rows] == [
        ["dien", "onnxruntime", "stock"],
        ["dien", "onnxruntime", "[executor]"],
        ["dien", "torch", "stock"],
        ["dien", "torch", "[fusion]"],
    ]
    assert [row[3].split()[0] for row in rows] == ["300", "600", "100", "500"]
    assert [row[6] for row in rows] == ["572"] * 4  # 600,000,000 bytes
    assert [row[7:] for row in rows] == [["3.20", "9.50", "-", "-"], ["3.20", "9.50", "pass", "-"],
                                         ["3.20", "-", "-", "-"], ["3.20", "-", "pass", "-"]]  # fmt: skip


def ranked(result: Result) -> Entry:
    failed = result.gate is not None and result.gate.verdict == "fail"
    return Entry(path=Path("record"), result=result, unranked=("accuracy gate failed",) if failed else ())


def test_a_record_without_a_rank_stands_for_no_ranked_one(fabricate: Fabricated) -> None:
    """Though it is newer and faster; where no other is left its row says why it has none."""
    older = ranked(result_of(fabricate, speedup=2.0, created="2026-03-01T12:00:00Z"))
    newer = result_of(fabricate, speedup=6.0, created="2026-03-02T12:00:00Z", budget="smoke")
    look = Entry(path=Path("look"), result=newer, unranked=("budget smoke", "noisy host"))
    (_, row) = matrix([older, look]).splitlines()[2:]
    assert "| 240 [230, 250] |" in row and row.endswith("| pass | - |")
    (_, row) = matrix([look]).splitlines()[2:]
    assert "| 720 [691, 749] |" in row and row.endswith("| pass | budget smoke; noisy host |")


def test_a_cell_shows_its_fastest_plan_and_not_its_newest(fabricate: Fabricated) -> None:
    """Of the plan's own records the newest, though an older one was faster; none that fails its gate if others pass."""
    best, failed = {"opts": {"fusion": {}, "dedup": {}}}, {"opts": {"fusion": {}, "bf16": {}}}
    fast = result_of(fabricate, speedup=7.0, created="2026-03-04T12:00:00Z", **failed)
    assert fast.gate is not None
    fast = dataclasses.replace(fast, gate=dataclasses.replace(fast.gate, verdict="fail"))
    opened = result_of(fabricate, speedup=8.0, created="2026-03-06T12:00:00Z", opts={"int8": {}})
    opened = dataclasses.replace(opened, plan=tuple(dataclasses.replace(line, division="open") for line in opened.plan))
    void = result_of(fabricate, speedup=20.0, created="2026-03-05T12:00:00Z")
    results = [
        result_of(fabricate, speedup=9.0, created="2026-03-01T12:00:00Z", **best),
        result_of(fabricate, speedup=4.0, created="2026-03-02T12:00:00Z", **best),
        result_of(fabricate, speedup=2.0, created="2026-03-03T12:00:00Z"),
        fast,
        opened,
        dataclasses.replace(void, validity=dataclasses.replace(void.validity, verdict="void")),
    ]
    plans = [
        (row.split(" | ")[2], row.split(" | ")[3].split()[0]) for row in matrix(map(ranked, results)).splitlines()[2:]
    ]
    assert plans == [("stock", "120"), ("[dedup,fusion]", "480")]
    assert [
        row.split(" | ")[2]
        for row in matrix([Entry(path=Path("f"), result=fast, unranked=("accuracy gate failed",))]).splitlines()[2:]
    ] == ["stock", "[bf16,fusion]"]


def test_a_page_is_changed_between_its_marks_only(tmp_path: Path) -> None:
    page, (start, end) = tmp_path / "page.md", marks(MARK)
    told = f"before, and a sentence about {start} and {end}"
    page.write_text(f"{told}\n\n{start}\nold\n{end}\n\nafter\n")
    for word in ("new", "newer"):
        into_page(f"| a |\n| --- |\n| {word} |", page, MARK)
    assert page.read_text() == f"{told}\n\n{start}\n| a |\n| --- |\n| newer |\n{end}\n\nafter\n"
    with pytest.raises(ConfigurationError, match=r"no record belongs in this table, and .*page\.md stays as it is"):
        into_page("| a |\n| --- |", page, MARK)
    assert "| newer |" in page.read_text()
    page.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is not text in UTF-8"):
        into_page("| a |\n| --- |\n| b |", page, MARK)
    for unmarked in (tmp_path / "none.md", tmp_path / "plain.md"):
        with pytest.raises(ConfigurationError, match=f"{unmarked}: there is no page with the lines"):
            into_page("| a |\n| --- |\n| b |", unmarked, MARK)
        unmarked.write_text(start)
