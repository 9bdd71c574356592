"""What leaves the gate without a verdict ends a run before its minutes of measuring, not after them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from harness.errors import ConfigurationError, SutFailure
from harness.measure import _answer_everything
from harness.measurement.evidence import Answers, Evidence
from harness.measurement.preparation import check_verdict
from optimizations.contract import Plan
from optimizations.plan import first_pipeline
from zoo.configs import WdlConfig
from zoo.schema import Float32, IdField, Schema, Split

SCHEMA = Schema(name="pointwise", ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),))


def _dataset(split: Split, labels: Float32) -> Any:
    return SimpleNamespace(name="mine", test=dataclasses.replace(split, labels=labels))


def _plan(**block: Any) -> Plan:
    pipeline = first_pipeline(WdlConfig(), SCHEMA, "torch", "cpu", "serve")
    return Plan(steps=(), pipeline=pipeline.with_block(pipeline.blocks[-1].path, **block))


@pytest.mark.parametrize("labels", [[0.0], [1.0], [np.nan], [np.nan, 0.0]], ids=str)
def test_labels_of_one_kind(split: Split, labels: list[float]) -> None:
    some = np.resize(np.array(labels, np.float32), len(split))
    with pytest.raises(ConfigurationError, match=r"dataset=mine: the \d+ labels .* not of both kinds"):
        check_verdict(_dataset(split, some), {"baseline": _plan()})
    check_verdict(_dataset(split, np.resize(np.array([np.nan, 0.0, 1.0], np.float32), len(split))), {})


def test_labels_that_are_none(split: Split) -> None:
    with pytest.raises(ConfigurationError, match="labels must be 0, 1 or NaN"):
        check_verdict(_dataset(split, np.full(len(split), 0.5, np.float32)), {})


def test_a_precision_without_a_tolerance(split: Split) -> None:
    with pytest.raises(ConfigurationError, match=r"computes in fp16, .* has one for bf16, fp32, int8, tf32"):
        check_verdict(_dataset(split, split.labels), {"baseline": _plan(), "candidate": _plan(dtype="fp16")})


def _answer(split: Split, monkeypatch: pytest.MonkeyPatch, broken: str, names: list[str]) -> list[str]:
    """Which sides were asked when the baseline, or the candidate, answers one sample with no number."""
    bench: Any = SimpleNamespace(split=split, observer=Mock(), evidence=Evidence())
    asked = []

    def accuracy_run(bench: Any, side: Any) -> None:
        asked.append(side.name)
        scores = np.full(len(split), 0.5, np.float32)
        scores[3] = np.nan if side.name == broken else 0.5
        bench.evidence.answers[side.name] = Answers.of(scores)

    monkeypatch.setattr("harness.measure.accuracy_run", accuracy_run)
    sides: Any = [SimpleNamespace(name=name) for name in names]
    _answer_everything(bench, sides)
    return asked


def test_a_baseline_that_answers_no_numbers(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["baseline", "candidate"]
    with pytest.raises(SutFailure, match=f"answered 1 of the {len(split)} labelled samples .* no finite number"):
        _answer(split, monkeypatch, "baseline", both)
    assert _answer(split, monkeypatch, "candidate", both) == both
    assert _answer(split, monkeypatch, "baseline", ["baseline"]) == ["baseline"]
    unlabelled = split.labels.copy()
    unlabelled[3] = np.nan
    assert _answer(dataclasses.replace(split, labels=unlabelled), monkeypatch, "baseline", both) == both
