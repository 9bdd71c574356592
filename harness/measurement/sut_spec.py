"""The order that main gives a system under test, and the plan lines made from what it reports back."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness.backends.peers.catalogue import peer_named
from harness.measurement.preparation import Prepared
from harness.measurement.referee import START_S
from harness.options import builds_folder
from harness.record.result import PlanLine
from harness.transport.wire import encode
from harness.trial import Trial
from optimizations.contract import Plan
from optimizations.plan import plan_to_json
from zoo.frequencies import row_frequencies, save_frequencies
from zoo.schema import Batch, Split

CALIBRATION_SAMPLES = 1024
COUNTED_SAMPLES = 2_000_000
"""At most: seconds of counting, and some hundred megabytes, whatever the data set holds."""


@contextmanager
def model_spec(prepared: Prepared, side: str, cache_dir: Path) -> Iterator[dict[str, Any]]:
    """Spec of the model SUT of ``side``. The calibration rows (training split, no labels) lie in a file that goes on
    leaving, and so do the frequencies of the training split's rows where the plan asks for them."""
    plan, graph = prepared.plans[side], prepared.graphs.get(side)
    with tempfile.TemporaryDirectory(prefix="recarena-") as folder:
        calibration, frequencies = Path(folder) / "calibration.bin", Path(folder) / "frequencies.npz"
        calibration.write_bytes(encode(calibration_batch(prepared.dataset.train)))
        counted = any(block.hot_mb for block in plan.pipeline.blocks)
        if counted:
            counts = row_frequencies(prepared.dataset.schema, counted_batch(prepared.dataset.train))
            save_frequencies(frequencies, counts)
        yield {
            "kind": "model",
            "plan": plan_to_json(plan),
            "model": dataclasses.asdict(prepared.config),
            "schema": prepared.dataset.schema.to_json(),
            "weights": str(prepared.served_by(side).resolve()),
            "graph": None if graph is None else str(graph.resolve()),
            "calibration": str(calibration),
            "frequencies": str(frequencies) if counted else None,
            "cache_dir": str(builds_folder(cache_dir)),
            "query_sizes": prepared.trial.query_sizes,
            "sla": dataclasses.asdict(prepared.trial.sla),
            "environment": dict(plan.pipeline.runtime.environment),
            "start_s": start_seconds(prepared.trial, side),
        }


def start_seconds(trial: Trial, side: str) -> float:
    """How long a side may take until it is warm."""
    return peer_named(trial.peer["name"]).start_s if side == trial.peer_side else START_S


def calibration_batch(train: Split) -> Batch:
    """The last rows of the training split: those nearest in time to what will be served."""
    return train.batch(np.arange(max(0, len(train) - CALIBRATION_SAMPLES), len(train)))


def settled(plan: Plan, report: Mapping[str, Any]) -> Plan:
    """The plan with the counts of workers and threads that its system under test reported: a fresh process of the same
    plan does not choose again."""
    counts = {name: report[name] for name in ("workers", "threads") if name in report}
    runtime = dataclasses.replace(plan.pipeline.runtime, **counts)
    return dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, runtime=runtime))


def counted_batch(train: Split) -> Batch:
    """The samples of the training split whose lookups are counted: the last ones before the calibration batch, which
    then tells how often other samples meet a hot row. A split that has no others is counted as a whole."""
    end = len(train) - CALIBRATION_SAMPLES if len(train) > CALIBRATION_SAMPLES else len(train)
    return train.batch(np.arange(max(0, end - COUNTED_SAMPLES), end))


def plan_lines(plan: Plan, report: Mapping[str, Any]) -> tuple[PlanLine, ...]:
    """Resolved steps joined with what the SUT lowered: matched blocks, fallbacks and build seconds."""
    lowered = {step["name"]: step for step in report.get("plan", ())}
    lines = []
    for step in plan.steps:
        seen = lowered.get(step.name, {})
        lines.append(
            PlanLine(
                name=step.name,
                phase=step.phase,
                claims=step.claims,
                division=step.division,
                emulated=step.emulated,
                matched=tuple(seen.get("matched", ())),
                fallbacks=tuple(f"{item['path']} ({item['reason']})" for item in seen.get("fallbacks", ())),
                build_s=seen.get("build_s"),
                options=json.loads(json.dumps(step.options)),
                built=seen.get("built", {}),
                score_tolerance=step.score_tolerance,
            )
        )
    return tuple(lines)
