"""A few steps from a common state, anywhere in an epoch: where right trainings end, and those that leave steps out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.backends.torch_training import TorchTraining
from harness.estimate.parity import FAR, FEWEST, TensorParity, tensor_parity
from harness.training.pacing import SETTLE, TIMED
from tests.parity.test_training_steps import CONFIGS, NO_GRADIENT, training_of

WARM, PLACES = 20, (3, 1)
PLANS = {"fusion": {"fusion": {}}, "stage": {"stage": {}}, "parts": {"micro_batch": {"parts": 3}}}


def burst(session: TorchTraining, state: Path, left_out: int = 0) -> dict[str, np.ndarray]:
    """The parameters after a burst from ``state``, the last steps of which may be left out."""
    session.resume(state)
    session.train(SETTLE, PLACES[0])
    session.train(TIMED - left_out, PLACES[1])
    return {path: np.array(array) for path, array in session.state().items()}


def rows(start: dict[str, np.ndarray], baseline: dict[str, np.ndarray], other: dict[str, np.ndarray]):
    found = (tensor_parity("timed", path, 12, start[path], baseline[path], other[path]) for path in start)
    return [row for row in found if row is not None and row.tensor not in NO_GRADIENT]


def worst(found: list[TensorParity]) -> float:
    return max(row.used_beside([]) for row in found if row.elements >= FEWEST)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_another_plan_goes_on_from_the_plain_loops_state(name: str, tmp_path: Path) -> None:
    plain, state = training_of(name, {}, threads=1), tmp_path / "common.state"
    plain.train(WARM)
    plain.checkpoint(state)
    start = {path: np.array(array) for path, array in plain.state().items()}
    plain.train(7)  # wherever a side stands, it begins at the state
    ended = burst(plain, state)
    assert worst(rows(start, ended, burst(plain, state))) == 0.0
    for plan, opts in PLANS.items():
        session = training_of(name, opts, threads=1)
        session.train(2)
        found = burst(session, state)
        assert worst(rows(start, ended, found)) <= 1.0, plan
        again = burst(session, state)
        assert all(np.allclose(again[path], found[path], rtol=1e-6, atol=1e-9) for path in start), plan
    short, half = (rows(start, ended, burst(plain, state, left_out=steps)) for steps in (1, TIMED // 2))
    assert worst(short) > 10.0  # in most bursts
    assert max(row.p50 for row in half if row.elements >= FEWEST) > FAR  # in any


def test_dropout_is_that_of_the_place(tmp_path: Path) -> None:
    plain, state = training_of("wdl", {}, dropout=0.3), tmp_path / "common.state"
    plain.train(5)
    plain.checkpoint(state)
    ended = burst(plain, state)
    staged = burst(training_of("wdl", {"stage": {}}, dropout=0.3), state)
    assert all(np.array_equal(ended[path], staged[path]) for path in ended)
