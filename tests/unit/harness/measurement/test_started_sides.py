"""What a side says of itself when it is ready is what the twin, the record and a fresh process of it go by."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from harness.measure import _as_started, _start_sides
from harness.measurement.preparation import Prepared
from harness.sut.process import SideInfo
from optimizations.contract import Plan
from optimizations.plan import first_pipeline, resolve
from zoo.configs import WdlConfig
from zoo.schema import IdField, Schema, Split

SCHEMA = Schema(name="pointwise", ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),))


def plan(opts: dict[str, Any]) -> Plan:
    return resolve(first_pipeline(WdlConfig(), SCHEMA, "torch", "cpu", "serve"), opts, frozenset())


def test_workers_and_threads_are_those_that_were_reported(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = {"baseline": {"workers": 1, "threads": 4}, "candidate": {"workers": 2, "threads": 2}}

    def start(name: str, spec: Any, shape: Any) -> SideInfo:
        return SideInfo(report=reported[name], start_s=1.0, pid=1, rss_bytes=1)

    monkeypatch.setattr("harness.measure.model_spec", lambda prepared, side, cache_dir: nullcontext({}))
    plans = {"baseline": plan({}), "candidate": plan({"executor": {"mode": "auto"}})}
    made: Any = {"trial": None, "dataset": None, "config": None, "weights": Path(), "trained": Path()}
    prepared = Prepared(plans=plans, **made)
    bench: Any = SimpleNamespace(
        splits=[split], observer=Mock(), joined=Mock(), referee=SimpleNamespace(start_side=start)
    )
    sides = _start_sides(bench, prepared, Path())
    assert [(side.name, side.workers) for side in sides] == [("baseline", 1), ("candidate", 2)]
    started = _as_started(prepared, sides).plans
    assert {name: (p.pipeline.runtime.workers, p.pipeline.runtime.threads) for name, p in started.items()} == {
        "baseline": (1, 4),
        "candidate": (2, 2),
    }
    assert started["candidate"].steps == plans["candidate"].steps
    assert plans["candidate"].pipeline.runtime.undecided and not started["candidate"].pipeline.runtime.undecided
