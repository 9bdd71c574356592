"""A model's session under executor: what is counted on the machine at hand, chosen, and reported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.measurement.sut_spec import plan_lines, settled
from harness.sut import executor_choice, model_session
from harness.sut.model_session import ModelSession, open_model
from harness.transport.wire import encode
from optimizations.plan import first_pipeline, plan_to_json, resolve
from zoo.checkpoint import save_weights
from zoo.configs import WdlConfig
from zoo.datasets import load_dataset
from zoo.models import build_model
from zoo.training import weights_of

CONFIG = WdlConfig(embedding_dim=4, large_dim=4, deep_units=(8,))


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, ModelSession]]:
    """(plan, session) of ``opt=[executor]`` with options, on a machine of three cores."""
    counts = {"train_users": 20, "valid_users": 5, "test_users": 5, "test_candidates": 5, "table_rows": 1000}
    dataset = load_dataset("planted", {"shape": "pointwise", "size": "tiny", **counts}, tmp_path)
    save_weights(tmp_path / "weights.npz", weights_of(build_model(CONFIG, dataset.schema)))
    (tmp_path / "calibration.bin").write_bytes(encode(dataset.train.batch(np.arange(50))))
    monkeypatch.setattr(model_session, "available_cores", lambda: (0, 1, 2))
    monkeypatch.setattr(executor_choice, "SECONDS", 0.0)
    monkeypatch.setattr(executor_choice, "QUERIES", 3000)

    def of(**options: Any) -> tuple[Any, ModelSession]:
        first = first_pipeline(CONFIG, dataset.schema, "torch", "cpu", "serve")
        plan = resolve(first, {"executor": options}, frozenset())
        spec = {
            "plan": plan_to_json(plan),
            "model": dataclasses.asdict(CONFIG),
            "schema": dataset.schema.to_json(),
            "weights": str(tmp_path / "weights.npz"),
            "calibration": str(tmp_path / "calibration.bin"),
            "cache_dir": str(tmp_path),
            "query_sizes": "heavy",
            "sla": {"limit_ms": 50.0, "percentile": 99.0},
        }
        return plan, open_model(spec)

    return of


@pytest.mark.parametrize(
    ("options", "workers", "threads"),
    [({}, 3, 1), ({"mode": "parallel"}, 1, 3), ({"workers": 2}, 2, 1), ({"threads": 2}, 1, 2)],
)
def test_what_is_left_open_is_counted_on_the_machine_that_serves(
    opened: Callable[..., Any], options: dict[str, Any], workers: int, threads: int
) -> None:
    plan, session = opened(**options)
    runtime = session.pipeline.runtime
    assert (runtime.workers, runtime.threads) == (workers, threads)
    assert (session.report["workers"], session.report["threads"]) == (workers, threads)
    assert "built" not in session.report["plan"][0]
    assert settled(plan, session.report).pipeline == session.pipeline


def test_auto_serves_and_reports_the_best_of_what_it_tried(opened: Callable[..., Any]) -> None:
    plan, session = opened(mode="auto")
    built = session.report["plan"][0]["built"]
    tried = [(row["workers"], row["threads"]) for row in built["settings"]]
    assert tried == [(2, 1), (3, 1), (1, 2), (1, 3)]
    best = min(built["settings"], key=lambda row: (-row["lbt_qps"], row["service_ms"]["n100"]))
    chosen = (session.pipeline.runtime.workers, session.pipeline.runtime.threads)
    assert chosen == (best["workers"], best["threads"]) == (session.report["workers"], session.report["threads"])
    (line,) = plan_lines(plan, session.report)
    assert json.loads(json.dumps(line.built)) == built
    again = settled(plan, session.report)
    assert again.pipeline == session.pipeline and not again.pipeline.runtime.undecided


def test_auto_keeps_the_count_that_was_given(opened: Callable[..., Any]) -> None:
    _, session = opened(mode="auto", threads=1)
    settings = session.report["plan"][0]["built"]["settings"]
    assert [(row["workers"], row["threads"]) for row in settings] == [(2, 1), (3, 1)]


def test_a_plan_without_a_report_stays(opened: Callable[..., Any]) -> None:
    plan, _ = opened()
    assert settled(plan, {}) == plan
