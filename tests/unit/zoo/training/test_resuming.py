"""A training that is killed and goes on ends as one that was not, to the last bit; and states that cannot be read."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.zoo.conftest import SCHEMAS, make_split
from tests.unit.zoo.training.killed_training import CASES, EVERY, KILLS
from zoo.checkpoint import load_weights
from zoo.configs import DlrmConfig, WdlConfig
from zoo.datasets import load_dataset
from zoo.fitting import Progress, fit
from zoo.schema import Dataset
from zoo.training import weights_of
from zoo.training_batches import TrainingBatches
from zoo.training_config import TrainingConfig
from zoo.training_state import LEAST_STEPS, StateFile, load_state, save_state, state_path, steps_between

ROOT = Path(__file__).resolve().parents[4]
SMALL = DlrmConfig(embedding_dim=4, bottom_units=(8, 4), top_units=(8,))
ONE_EPOCH = TrainingConfig(batch_size=400, max_epochs=1, threads=1)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    """The folder of all cases, and by case the signals that ended its processes."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.unit.zoo.training.killed_training", str(folder), *CASES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def said(folder: Path, case: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{case}-{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", list(CASES))
def test_a_killed_training_ends_with_the_same_bits(killed: tuple[Path, dict[str, list[int]]], case: str) -> None:
    folder, signals = killed
    assert signals[case] == [0, *[signal.SIGKILL] * len(KILLS[case]), 0]
    whole, resumed = (load_weights(folder / f"{case}-{name}.npz") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    for name, array in whole.items():
        assert array.tobytes() == resumed[name].tobytes(), name
    states = [load_state(folder / f"{case}-{name}.state") for name in ("whole", "killed")]
    assert_same(*states)
    assert states[0]["learner"]["steps"] == 40
    ends = [said(folder, case, name)[-1] for name in ("whole", "killed")]
    assert ends[0] == ends[1] and ends[0]["steps"] == 40


def test_it_goes_on_from_the_last_state_that_was_kept_whole(killed: tuple[Path, dict[str, list[int]]]) -> None:
    lines = said(killed[0], "wdl", "killed")
    # Killed before there is any, it begins again; that of step 8 is not written whole, step 10 comes after 8, that of
    # 28 has no name yet, and as the last step is told its state is still that of 36.
    assert [line["step"] for line in lines if line.get("resumed")] == [4, 8, 24, 36]
    assert [line["step"] for line in lines if "step" in line].count(1) == 2
    assert not [line for line in lines if "warning" in line]


def test_the_best_weights_of_long_ago_are_part_of_the_state(killed: tuple[Path, dict[str, list[int]]]) -> None:
    """This training is best early: what it ends with was read from the file."""
    assert said(killed[0], "wdl", "killed")[-1]["best_step"] < 36


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Both trees hold the same, tensors by their bits."""
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    elif isinstance(one, Mapping):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, Sequence) and not isinstance(one, str):
        assert len(one) == len(other), path
        for place, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{path}.{place}")
    else:
        assert one == other, path


@settings(max_examples=30, deadline=None)
@given(before=st.integers(0, 13), negatives=st.booleans(), reordering=st.none() | st.integers(0, 3))
def test_batches_go_on_in_their_order(before: int, negatives: bool, reordering: int | None) -> None:
    """Across the ends of epochs of five batches."""
    split = make_split(SCHEMAS["sequence"], 9, 23, seed=3)
    one, other = (TrainingBatches(split, 5, 7, negatives, reordering) for _ in range(2))
    for _ in range(before):
        one.draw()
    other.load_state_dict(one.state_dict())
    for _ in range(7):
        mine, theirs = one.draw(), other.draw()
        np.testing.assert_array_equal(mine.samples, theirs.samples)
        np.testing.assert_array_equal(mine.negatives, theirs.negatives)
    assert one.steps == other.steps == before + 7


@pytest.fixture
def tiny() -> Dataset:
    return load_dataset("planted", {"shape": "pointwise", "size": "tiny"}, Path("unused"))


def trained(dataset: Dataset, kept: StateFile | None) -> tuple[dict[str, np.ndarray], list[Progress]]:
    reports: list[Progress] = []
    return weights_of(fit(SMALL, dataset, ONE_EPOCH, reports.append, kept=kept).model), reports


def state_of_another_model(path: Path, dataset: Dataset) -> None:
    fit(WdlConfig(embedding_dim=4, deep_units=(8,)), dataset, ONE_EPOCH, lambda _: None, kept=StateFile(path, str, 5))


@pytest.mark.parametrize("what", ["cut short", "another model", "no state"])
def test_what_cannot_be_gone_on_from_is_said_in_a_line_and_begun_anew(tmp_path: Path, tiny: Dataset, what: str) -> None:
    path, warnings = tmp_path / "dlrm.state", list[str]()
    state_of_another_model(path, tiny)
    if what == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    if what == "no state":
        path.write_text("nothing of the kind")
    weights, reports = trained(tiny, StateFile(path, warnings.append, 5))
    (line,) = warnings
    assert str(path) in line and line.endswith("; the training begins anew") and "\n" not in line
    assert not any(report.resumed for report in reports)
    for name, array in trained(tiny, None)[0].items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)


def test_a_disk_that_refuses_is_warned_of_once(tmp_path: Path, tiny: Dataset) -> None:
    (tmp_path / "file").write_text("")
    warnings = list[str]()
    weights, _ = trained(tiny, StateFile(tmp_path / "file" / "dlrm.state", warnings.append, 7))
    assert len(warnings) == 1 and "could not be resumed" in warnings[0]
    assert weights.keys() == trained(tiny, None)[0].keys()


TREE = {"a": torch.arange(5000.0), "b": {"c": -math.inf, "d": [1, None, "text", 2**100]}, "e": torch.zeros(3, 0)}


def test_a_state_survives_the_disk_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.state"
    save_state(path, TREE)
    save_state(path, TREE)
    assert_same(load_state(path), TREE)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.state"]
    (path.parent / ".x.state-123").write_text("left by a process that was killed")
    StateFile(path, str).remove()
    assert list(path.parent.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_flipped_byte_never_changes_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, place: float, change: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "x.state"
    save_state(path, TREE)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= change
    path.write_bytes(data)
    try:
        found = load_state(path)
    except ValueError as error:
        assert "cannot be read as the state of a training" in str(error)
    else:
        assert_same(found, TREE)  # it lay in the room between the members


def test_large_states_are_kept_seldom() -> None:
    assert steps_between(0) == steps_between(10**6) == LEAST_STEPS
    assert steps_between(10**9) == 4000
    assert state_path(Path("a/dlrm-0123.npz")) == Path("a/dlrm-0123.state")
    assert EVERY < LEAST_STEPS
