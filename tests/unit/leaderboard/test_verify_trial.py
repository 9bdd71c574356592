"""Verification of what a record says was measured: result, trial and data have to be of one experiment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.record.floor import NULL_PROBES
from leaderboard.verify import verify


def test_a_peer_cannot_be_left_out(simulate_record: Callable[..., Path], tampered: Callable[..., Path]) -> None:
    """A plan over another package, dressed up as one over ``opt=[]``."""
    path = simulate_record(opts={"fusion": {}}, peer={"name": "ort_stock", "settings": "stock"}, quads=1)
    assert verify(path).passed

    def drop(result: dict[str, Any]) -> None:
        del result["trial"]["peer"]
        result["peer"] = None

    problems = verify(tampered(path, "result.json", drop)).problems
    assert any(problem.startswith("trial.json and result.json disagree on peer: {'name'") for problem in problems)
    assert any(problem.startswith("trial.json and result.json disagree on the peer:") for problem in problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(name="criteo"), "the dataset of trial.json is 'planted'"),
        (lambda data: data.update(fingerprint="aa" * 32), "the dataset_fingerprint of trial.json is"),
    ],
)
def test_the_data_are_those_of_the_trial(
    measured: Path, tampered: Callable[..., Path], change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """They decide which results a record is ranked among."""
    problems = verify(tampered(measured, "result.json", lambda result: change(result["dataset"]))).problems
    assert any(problem.startswith(said) for problem in problems), problems


def test_rows_that_are_gone_are_told_before_numbers_fail_on_them(record: Path, edit: Any) -> None:
    """A null probe without one query has no p99."""
    (probe,) = (
        s for s in edit.read("result.json")["segments"] if (s["purpose"], s["trace"]) == ("floor", NULL_PROBES + 1)
    )
    edit.columns(
        "queries.parquet", lambda rows: {n: column[rows["segment"] != probe["segment"]] for n, column in rows.items()}
    )
    edit.rewrite_manifest()
    verification = verify(record)
    assert verification.findings == []
    assert any("queries were dropped or added" in problem for problem in verification.problems)


@pytest.mark.parametrize("limit", [None, "fast", int("9" * 400)])
def test_a_limit_that_is_no_number_is_refused(record: Path, edit: Any, limit: Any) -> None:
    for name in ("trial.json", "result.json"):
        data = json.loads((record / name).read_text())
        (data if name == "trial.json" else data["trial"])["sla"]["limit_ms"] = limit
        (record / name).write_text(json.dumps(data))
    edit.rewrite_manifest()
    verification = verify(record)
    assert not verification.passed and verification.problems


def test_stamps_without_end_are_refused(record: Path, edit: Any) -> None:
    """The largest moment that the column holds."""

    def endless(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows["done_ns"][rows["side"] == "candidate"] = np.iinfo(np.int64).max
        return rows

    edit.columns("queries.parquet", endless)
    edit.rewrite_manifest()
    assert not verify(record).passed
