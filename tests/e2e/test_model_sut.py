"""A real model behind slots and dispatcher answers what the reference answers in this process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.clock import sleep_s
from harness.errors import SutFailure
from harness.measurement.referee import OpenLimits, Referee, ring_shape
from harness.traffic.arrivals import make_trace, sweep
from harness.traffic.segment import Status
from harness.transport.wire import encode
from optimizations.contract import Dispatch, Plan, Runtime
from optimizations.plan import first_pipeline, plan_to_json, resolve
from zoo.checkpoint import save_weights
from zoo.configs import DinConfig, WdlConfig
from zoo.datasets import load_dataset
from zoo.models import build_model
from zoo.prediction import predict
from zoo.schema import MISSING_ID, Dataset
from zoo.training import weights_of

pytestmark = pytest.mark.e2e
CONFIGS = {
    "sequence": DinConfig(embedding_dim=8, attention_units=(8,), top_units=(16,)),
    "pointwise": WdlConfig(embedding_dim=8, large_dim=8, deep_units=(32, 16)),
}


@pytest.fixture(params=["sequence", "pointwise"])
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dataset(shape: str, tmp_path: Path) -> Dataset:
    counts = {"train_users": 40, "valid_users": 5, "test_users": 12, "test_candidates": 110, "table_rows": 1000}
    return load_dataset("planted", {"shape": shape, "size": "tiny", **counts}, tmp_path)


def _spec(dataset: Dataset, shape: str, folder: Path, **pipeline: Any) -> tuple[dict[str, Any], np.ndarray]:
    """The spec of a SUT with random weights, and the reference's scores of the test split."""
    config = CONFIGS[shape]
    model = build_model(config, dataset.schema)
    save_weights(folder / "weights.npz", weights_of(model))
    (folder / "calibration.bin").write_bytes(encode(dataset.train.batch(np.arange(120))))
    first = first_pipeline(config, dataset.schema, "torch", "cpu", "serve")
    plan = Plan(steps=(), pipeline=dataclasses.replace(first, **pipeline))
    spec = {
        "kind": "model",
        "plan": plan_to_json(plan),
        "model": dataclasses.asdict(config),
        "schema": dataset.schema.to_json(),
        "weights": str(folder / "weights.npz"),
        "calibration": str(folder / "calibration.bin"),
        "cache_dir": str(folder),
        "environment": {"OMP_NUM_THREADS": "1"},
    }
    return spec, predict(model, dataset.test)


def test_answers_are_those_of_the_reference(dataset: Dataset, shape: str, tmp_path: Path) -> None:
    spec, expected = _spec(dataset, shape, tmp_path, runtime=Runtime(threads=1))
    trace = make_trace(1, 60, "heavy", dataset.test.groups)
    with Referee() as referee:
        info = referee.start_side("sut", spec, ring_shape([dataset.test], 100))
        swept = referee.run_closed("sut", dataset.test, sweep(dataset.test, 100))
        timed = referee.run_open("sut", dataset.test, trace, 60.0, OpenLimits(limit_ns=60 * 10**9))
    assert info.report["plan"] == []
    np.testing.assert_array_equal(swept.status, Status.ANSWERED)
    np.testing.assert_allclose(swept.scores, expected, atol=1e-6)
    np.testing.assert_array_equal(timed.status, Status.ANSWERED)
    np.testing.assert_allclose(timed.scores, expected[trace.queries(dataset.test.groups).samples], atol=1e-6)
    assert expected.std() > 0


def _fused(dataset: Dataset, shape: str, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The same with a plan whose model is one program."""
    spec, expected = _spec(dataset, shape, folder)
    first = first_pipeline(CONFIGS[shape], dataset.schema, "torch", "cpu", "serve")
    plan = resolve(first, {"fusion": {}, "executor": {"workers": 2, "threads": 1}}, frozenset())
    return {**spec, "plan": plan_to_json(plan)}, expected


def test_a_program_answers_in_its_slots_what_the_reference_answers(
    dataset: Dataset, shape: str, tmp_path: Path
) -> None:
    spec, expected = _fused(dataset, shape, tmp_path)
    trace = make_trace(1, 60, "heavy", dataset.test.groups)
    with Referee() as referee:
        info = referee.start_side("sut", spec, ring_shape([dataset.test], 100))
        swept = referee.run_closed("sut", dataset.test, sweep(dataset.test, 100), 8)
        timed = referee.run_open("sut", dataset.test, trace, 60.0, OpenLimits(limit_ns=60 * 10**9))
    assert "passes.program" in info.report["plan"][0]["matched"]
    for segment in (swept, timed):
        np.testing.assert_array_equal(segment.status, Status.ANSWERED)
        assert np.all((segment.sent_ns <= segment.dequeued_ns) & (segment.dequeued_ns <= segment.started_ns))
        assert np.all(segment.started_ns <= segment.done_ns)
    np.testing.assert_allclose(swept.scores, expected, atol=1e-5)
    np.testing.assert_allclose(timed.scores, expected[trace.queries(dataset.test.groups).samples], atol=1e-5)
    assert set(swept.worker.tolist()) <= {0, 1}


def test_splitting_merging_and_workers_change_no_answer(dataset: Dataset, shape: str, tmp_path: Path) -> None:
    dispatch, runtime = Dispatch(split=24, batch=4, wait_ms=1.0), Runtime(threads=1, workers=2)
    spec, expected = _spec(dataset, shape, tmp_path, dispatch=dispatch, runtime=runtime)
    with Referee() as referee:
        referee.start_side("sut", spec, ring_shape([dataset.test], 100))
        swept = referee.run_closed("sut", dataset.test, sweep(dataset.test, 100), 8)
    np.testing.assert_allclose(swept.scores, expected, atol=1e-6)
    assert set(swept.worker.tolist()) == {0, 1}


OVERLAPPED = [Dispatch(parts=3), Dispatch(stage=True), Dispatch(parts=2, stage=True)]
CASES = [("sequence", dispatch, workers) for dispatch in OVERLAPPED for workers in (1, 2)]
"""``tests/parity/test_overlap.py`` has the scores of every model."""
of_sequences = pytest.mark.parametrize("shape", ["sequence"], indirect=True)


@pytest.mark.parametrize(
    ("shape", "dispatch", "workers"), [*CASES, ("pointwise", OVERLAPPED[-1], 2)], indirect=["shape"]
)
def test_overlapped_steps_change_no_answer_and_no_side_wakes_up(
    dataset: Dataset, shape: str, tmp_path: Path, dispatch: Dispatch, workers: int
) -> None:
    """Frozen between two segments, the side's threads use no CPU time, and go on after it."""
    spec, expected = _spec(dataset, shape, tmp_path, dispatch=dispatch, runtime=Runtime(threads=1, workers=workers))
    trace = make_trace(1, 60, "heavy", dataset.test.groups)
    with Referee() as referee:
        referee.start_side("sut", spec, ring_shape([dataset.test], 100))
        swept = referee.run_closed("sut", dataset.test, sweep(dataset.test, 100), 8)
        referee.freeze("sut")
        frozen_ns = referee.cpu_ns("sut")
        sleep_s(0.3)
        assert referee.cpu_ns("sut") == frozen_ns
        referee.thaw("sut")
        timed = referee.run_open("sut", dataset.test, trace, 200.0, OpenLimits(limit_ns=60 * 10**9))
    np.testing.assert_allclose(swept.scores, expected, atol=1e-6)
    np.testing.assert_array_equal(timed.status, Status.ANSWERED)
    np.testing.assert_allclose(timed.scores, expected[trace.queries(dataset.test.groups).samples], atol=1e-6)


@of_sequences
@pytest.mark.parametrize("dispatch", OVERLAPPED)
def test_an_error_beside_the_compute_arrives_with_its_traceback(
    dataset: Dataset, shape: str, tmp_path: Path, dispatch: Dispatch
) -> None:
    spec, _ = _spec(dataset, shape, tmp_path, dispatch=dispatch, runtime=Runtime(threads=1))
    _with_ids_outside(spec, dataset, tmp_path)
    with Referee() as referee:
        referee.start_side("sut", spec, ring_shape([dataset.test], 100))
        with pytest.raises(SutFailure, match=r"(?s)Traceback.*in look_up.*IndexError: field .* got the raw id"):
            referee.run_closed("sut", dataset.test, sweep(dataset.test, 100), 4)


@of_sequences
def test_an_error_of_a_program_arrives_with_its_traceback(dataset: Dataset, shape: str, tmp_path: Path) -> None:
    spec, _ = _fused(dataset, shape, tmp_path)
    _with_ids_outside(spec, dataset, tmp_path)
    with Referee() as referee:
        referee.start_side("sut", spec, ring_shape([dataset.test], 100))
        with pytest.raises(SutFailure, match=r"(?s)Traceback.*IndexError: field .* got the raw id"):
            referee.run_closed("sut", dataset.test, sweep(dataset.test, 100), 4)


def _with_ids_outside(spec: dict[str, Any], dataset: Dataset, folder: Path) -> None:
    """Fields that are not hashed meet ids outside their tables, which the warm-up's missing ids do not show."""
    ids = tuple(dataclasses.replace(field, hashed=False) for field in dataset.schema.ids)
    spec["schema"] = dataclasses.replace(dataset.schema, ids=ids).to_json()
    warm = dataset.train.batch(np.arange(120))
    missing = [dataclasses.replace(side, ids=np.full_like(side.ids, MISSING_ID)) for side in (warm.user, warm.item)]
    (folder / "calibration.bin").write_bytes(encode(dataclasses.replace(warm, user=missing[0], item=missing[1])))


@of_sequences
def test_weights_that_do_not_fit_end_the_start_with_the_reason(dataset: Dataset, shape: str, tmp_path: Path) -> None:
    spec, _ = _spec(dataset, shape, tmp_path)
    save_weights(tmp_path / "weights.npz", {"nothing": np.zeros(3, np.float32)})
    with Referee() as referee, pytest.raises(SutFailure, match=r"(?s)could not be built.*unexpected: nothing"):
        referee.start_side("sut", spec, ring_shape([dataset.test], 100))
