"""A folder of records in which some are broken or odd: the others stand, and what is wrong is said."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.console.report import marks, plan_text
from harness.record.reader import Record, read_record
from leaderboard.__main__ import main
from leaderboard.show import board_view
from leaderboard.site import render
from leaderboard.store import load_board
from tests.rendered import text_of


def in_result(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        data = json.loads((path / "result.json").read_text())
        change(data)
        (path / "result.json").write_text(json.dumps(data))

    return apply


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no limit": (in_result(lambda d: d["trial"].pop("sla")), "result.json does not hold a trial: sla is missing"),
    "no model": (in_result(lambda d: d["trial"].pop("model")), "model is missing"),
    "null": (in_result(lambda d: d["trial"].update(sla=None)), "sla is "),
    "text": (in_result(lambda d: d["trial"]["sla"].update(limit_ms="fast")), "sla.limit_ms is 'fast'"),
    "sizes": (in_result(lambda d: d["trial"].update(sizes=[1])), "sizes is [1]"),
    "a list": (lambda path: (path / "trial.json").write_text("[1]") and None, "trial.json does not hold a trial"),
    "too long": (in_result(lambda d: d["baseline"].update(lbt_qps=int("9" * 400))), "is no number"),
    "infinite": (in_result(lambda d: d["candidate"].update(lbt_qps=math.inf)), "Infinity is no number"),
    "no number": (in_result(lambda d: d["candidate"].update(lbt_qps=math.nan)), "NaN is no number"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_record_takes_no_other_from_the_board(write: Callable[..., Record], tmp_path: Path, what: str) -> None:
    harm, said = BROKEN[what]
    write(opts={"fusion": {}})
    harm(write(opts={"bf16": {}}).path)
    board = load_board(tmp_path / "records")
    ((entry,),) = board.groups.values()
    assert entry.result.plan_name == "[fusion]" and entry.unranked == ()
    (why,) = board.unreadable.values()
    assert said in why
    assert "unreadable" in text_of(board_view(board)) and "[fusion]" in render(board)


def test_what_a_plan_chose_may_be_a_word(write: Callable[..., Record], tmp_path: Path) -> None:
    def chosen(result: Any) -> Any:
        return dataclasses.replace(
            result, plan=tuple(dataclasses.replace(line, built={"kernel": "avx2", "rows": 3}) for line in result.plan)
        )

    assert "kernel avx2; rows 3.00" in marks(write(chosen).result.plan[0])
    assert "kernel avx2" in render(load_board(tmp_path / "records"))


def test_what_is_void_has_no_verdict(write: Callable[..., Record], tmp_path: Path) -> None:
    write(speedup=2.0)
    assert "faster" in text_of(board_view(load_board(tmp_path / "records")))

    def void(result: Any) -> Any:
        return dataclasses.replace(result, validity=dataclasses.replace(result.validity, verdict="void"))

    write(void, speedup=3.0)
    (path,) = {p for p in (tmp_path / "records").iterdir() if read_record(p).result.void}
    for other in set((tmp_path / "records").iterdir()) - {path}:
        other.rename(tmp_path / other.name)
    board = load_board(tmp_path / "records")
    assert "faster" not in text_of(board_view(board)) and ">faster<" not in render(board)


def test_plans_with_other_options_are_told_apart(write: Callable[..., Record], tmp_path: Path) -> None:
    assert plan_text(write(opts={"fusion": {"fc": False}, "bf16": {}}).result) == "[bf16*,fusion] (fusion.fc=False)"
    assert "fusion.fc=False" in render(load_board(tmp_path / "records"))


def test_names_in_brackets_are_shown_as_they_are(
    write: Callable[..., Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``[/x]`` would close a style that was never opened."""
    path = write().path
    odd = path.rename(path.with_name("2026-03-01T12-00-00Z_[-x]"))
    in_result(lambda d: d.update(trial_id="[/x]"))(odd)
    base = ["--records-dir", str(tmp_path / "records")]
    for command in (["show"], ["show", str(odd)], ["compare", str(odd), str(odd)], ["verify", str(odd)]):
        assert main([*base, *command]) in (0, 1), command
        printed = capsys.readouterr().out
        assert "[/x]" in printed or "[-x]" in printed, command


def test_one_bad_note_keeps_no_record_from_its_upload(
    write: Callable[..., Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (write(opts=opts).path for opts in ({"fusion": {}}, {"bf16": {}}))
    (first / "tracking.json").write_text('{"uri": "sq')
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (second / "tracking.json").write_text(json.dumps({"uri": uri, "status": "pending"}))
    assert main(["--records-dir", str(tmp_path / "records"), "sync"]) == 1
    printed = capsys.readouterr().out.replace("\n", "")
    assert '"status": "pending"} in its place has the record uploaded' in printed
    assert "1 uploaded, 1 still pending" in printed
