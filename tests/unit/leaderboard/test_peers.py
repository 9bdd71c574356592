"""Peers on the board: marked and out of the ranking, and the table of plans over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.console.report import result_table
from harness.record.reader import Record, read_record
from leaderboard.__main__ import main
from leaderboard.backends import matrix
from leaderboard.compare import compare
from leaderboard.peers import HEADINGS, over_peers
from leaderboard.result_check import check_result
from leaderboard.show import board_view, peer_text, ranks, record_view
from leaderboard.site import render
from leaderboard.store import load_board
from leaderboard.verify import verify
from tests.rendered import text_of

ORT, ORT_BEST = {"name": "ort_stock", "settings": "stock"}, {"name": "ort_stock", "settings": "best"}
COMPILED = {"name": "torch_compile", "settings": "best"}
PLAN = {"bf16": {}, "fusion": {}}
MEASURED: dict[str, Any] = {"backend": "peer", "opts": {}}
Write = Callable[..., Record]


def test_a_peer_stands_where_it_belongs_and_takes_no_place(write: Write, tmp_path: Path) -> None:
    write(opts={"fusion": {}}, speedup=2.0)
    write(**MEASURED, peer=ORT_BEST, speedup=1.5)
    write(**MEASURED, peer=ORT, speedup=3.0, budget="smoke")
    write(opts=PLAN, peer=ORT_BEST, lbt=180.0, speedup=2.5)
    write(opts={})
    board = load_board(tmp_path / "records")
    (entries,) = board.groups.values()
    assert [(rank, entry.result.plan_name, entry.kind) for rank, entry in ranks(entries)] == [
        ("1", "[bf16*,fusion] over ort_stock (best)", "candidate"),
        ("2", "[fusion]", "candidate"),
        ("peer", "peer ort_stock (best)", "peer"),
        ("3", "[]", "baseline"),
        ("-", "peer ort_stock (stock)", "peer"),
    ]
    shown, page = text_of(board_view(board)), render(board)
    assert "peer ort_stock (best)" in shown and "over ort_stock (best)" in shown
    assert '<tr class="peer">' in page and 'class="bar peer"' in page and "2 workers of 1 thread" in page


def test_a_record_says_whose_weights_a_peer_has(write: Write) -> None:
    def of_its_own(result: Any) -> Any:
        trained = {"valid_auc": 0.71234, "epochs": 3, "seconds": 61.5}
        peer = dataclasses.replace(result.peer, weights="own", trained=trained, options={"a": 1})
        return dataclasses.replace(result, peer=peer, gate=dataclasses.replace(result.gate, same_weights=False))

    record = write(of_its_own, **MEASURED, peer=ORT)
    assert peer_text(record.result.peer) == (  # type: ignore[arg-type]
        "peer (candidate): ort_stock (stock), weights of its own (epochs 3, seconds 61.5, valid auc 0.71234); a=1; "
        "2 workers of 1 thread: 90 queries/s predicted"
    )
    shown = text_of(record_view(record))
    assert "weights of its own" in shown and "the AUC alone (a model of its own)" in shown
    assert "dien on planted (peer, cpu), peer ort_stock (stock)" in text_of(result_table(record.result))
    ours = write(opts={"fusion": {}}, peer=ORT)
    assert "opt=[fusion] over ort_stock (stock)" in text_of(result_table(ours.result))
    assert "our weights" in text_of(record_view(ours))


def test_a_plan_with_other_options_is_another_plan(write: Write, tmp_path: Path) -> None:
    write(opts={"fusion": {"fc": True}}, peer=ORT, speedup=4.0, created="2026-03-01T12:00:00Z")
    write(opts={"fusion": {"fc": False}}, peer=ORT, speedup=1.5, created="2026-03-02T12:00:00Z")
    entries = [entry for group in load_board(tmp_path / "records").groups.values() for entry in group]
    rows = [line.strip("| ").split(" | ") for line in over_peers(entries).splitlines()[2:]]
    plans = [("**[fusion] (fusion.fc=False)**", "**1.50"), ("**[fusion]**", "**4.00")]
    assert [(row[2], row[4].split()[0]) for row in rows] == plans


def test_the_table_has_the_newest_record_of_each_pair_and_the_best_peer_first(write: Write, tmp_path: Path) -> None:
    write(opts=PLAN, peer=ORT, speedup=9.0, created="2026-03-01T12:00:00Z")
    write(opts=PLAN, peer=ORT, speedup=6.0, created="2026-03-02T12:00:00Z")
    write(opts=PLAN, peer=ORT_BEST, speedup=4.0, shift=0.3)
    write(opts=PLAN, peer=COMPILED, speedup=5.0, budget="smoke")
    write(opts={"fusion": {}}, peer=ORT_BEST, speedup=3.0)
    write(
        lambda result: dataclasses.replace(
            result, ratio=dataclasses.replace(result.ratio, lbt=None, lbt_ci=None, reason="the peer is late")
        ),
        opts={"fusion": {}},
        peer=COMPILED,
    )
    write(
        lambda result: dataclasses.replace(result, validity=dataclasses.replace(result.validity, verdict="void")),
        opts=PLAN,
        peer=COMPILED | {"settings": "stock"},
        speedup=1.5,
    )
    write(**MEASURED, peer=ORT_BEST)
    write(opts={"fusion": {}})
    entries = [entry for group in load_board(tmp_path / "records").groups.values() for entry in group]
    head, _, *rows = (line.strip("| ").split(" | ") for line in over_peers(entries).splitlines())
    assert tuple(head) == HEADINGS and all(len(row) == len(HEADINGS) for row in rows)
    assert [row[2:7] for row in rows] == [
        ["**[bf16*,fusion]**", "**ort_stock (best)**", "**4.00 [3.80, 4.20]**", "**3.80**", "480 [461, 499]"],
        ["[bf16*,fusion]", "torch_compile (best)", "5.00 [4.75, 5.25]", "4.75", "600 [576, 624]"],
        ["[bf16*,fusion]", "ort_stock (stock)", "6.00 [5.70, 6.30]", "5.70", "720 [691, 749]"],
        ["[bf16*,fusion]", "torch_compile (stock)", "1.50 [1.42, 1.58]", "1.42", "180 [173, 187]"],
        ["**[fusion]**", "**ort_stock (best)**", "**3.00 [2.85, 3.15]**", "**2.85**", "360 [346, 374]"],
        ["[fusion]", "torch_compile (best)", "-", "-", "240 [230, 250]"],
    ]
    assert [row[9] for row in rows] == ["fail", *("pass",) * 5] and {row[1].strip("*") for row in rows} == {"planted"}
    assert rows[0][11] == "accuracy gate failed" and rows[1][11] == "budget smoke" and rows[3][11] == "void"
    assert matrix(entries).count("\n") == 3  # of backends: that of [fusion] by itself


def test_a_peer_and_a_plan_that_were_measured_apart_are_compared_by_their_throughput(write: Write) -> None:
    peer, ours = write(**MEASURED, peer=ORT_BEST, speedup=1.5), write(opts=PLAN, speedup=3.0)
    lines = {line.metric.split(",")[0]: line for line in compare(peer, ours)}
    assert lines["latency-bound throughput"].change == pytest.approx(2.0)
    low, high = lines["latency-bound throughput"].ci  # type: ignore[misc]
    assert low == pytest.approx(2.0 / 1.0575, rel=2e-3) and high == pytest.approx(2.0 * 1.0575, rel=2e-3)
    assert lines["ratio to its own baseline"].ci is None
    beside = write(opts=PLAN, peer=ORT_BEST)
    same = {line.metric for line in compare(beside, beside)}
    assert "ratio to its baseline" in same
    other = {line.metric for line in compare(beside, write(opts=PLAN, peer=ORT))}
    assert "ratio to its own baseline" in other


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(peer=None), "peer is None and trial.peer 'ort_stock'"),
        (
            lambda d: d["peer"].update(settings="stock"),
            "peer is 'ort_stock' and trial.peer 'ort_stock', or they are set",
        ),
        (lambda d: d["trial"].update(peer={}), "peer is 'ort_stock' and trial.peer None"),
        (lambda d: d["plan"].clear(), "plan and trial.opts name different optimizations"),
    ],
)
def test_what_a_record_says_of_its_peer_has_to_agree(write: Write, change: Callable[[Any], Any], sentence: str) -> None:
    for fields in (MEASURED, {"opts": {"fusion": {}}}):
        data = write(**fields, peer=ORT_BEST).result.to_dict()
        data["candidate"]["workers"] = 2  # two systems, which need no optimization to differ
        assert check_result(data) == []
        change(data)
        assert any(problem.startswith(sentence) for problem in check_result(data))


def test_a_record_with_a_peer_is_verified(simulate_record: Callable[..., Path]) -> None:
    """A whole simulated trial: the plans of both sides, what is said of the peer, and every number again."""
    path = simulate_record(**MEASURED, peer=ORT, quads=1)
    result = read_record(path).result
    verification = verify(path)
    assert verification.passed, (verification.problems, [f for f in verification.findings if not f.agrees])
    assert result.peer is not None and (result.peer.side, result.peer.weights) == ("candidate", "ours")
    assert [line.name for line in result.plan] == ["ort_stock"] and result.gate is not None
    assert result.ratio is not None and result.peer.weights_sha256 == result.weights_sha256


def test_the_table_is_printed_or_put_into_a_page(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(opts=PLAN, peer=ORT_BEST, speedup=4.0)
    base = ["--records-dir", str(tmp_path / "records"), "peers"]
    assert main(base) == 0
    printed = capsys.readouterr().out
    assert "**4.00 [3.80, 4.20]**" in printed
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- entries -->\nold\n<!-- end of entries -->\nafter\n")
    assert main([*base, "--into", str(page)]) == 0
    assert page.read_text() == f"before\n<!-- entries -->\n{printed}<!-- end of entries -->\nafter\n"
    assert main([*base, "--into", str(tmp_path / "none.md")]) == 2
