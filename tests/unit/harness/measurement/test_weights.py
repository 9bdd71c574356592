"""Which weights are served: trained once on one copy of the tables, then written as often as the data set asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.edge.config import plan_runs
from harness.edge.trial_builder import build
from harness.errors import ConfigurationError
from harness.measurement import weights
from harness.options import RunOptions
from harness.trial import Trial
from zoo.checkpoint import load_weights, save_weights
from zoo.configs import DlrmConfig
from zoo.datasets import load_dataset
from zoo.models import build_model
from zoo.schema import Dataset
from zoo.training import weights_of

COPIES = 3
CONFIG = DlrmConfig(bottom_units=(16,), top_units=(16,))
SMALL = {"shape": "pointwise", "size": "tiny"}


class Silent:
    """An observer that says nothing."""

    def stage(self, name: str, total: float | None = None, unit: str = "s") -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""


class Told(Silent):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.advanced = 0.0

    def stage(self, name: str, total: float | None = None, unit: str = "s") -> None:
        self.stages.append(name)

    def advance(self, amount: float, note: str = "") -> None:
        self.advanced += amount

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def trial_and_options(folder: Path, copies: int) -> tuple[Trial, RunOptions]:
    size = ["model=dlrm", "model.bottom_units=[16]", "model.top_units=[16]", "dataset.size=tiny"]
    (values,) = plan_runs([*size, f"dataset.table_copies={copies}", f"cache_dir={folder}"], multirun=False)
    return build(values)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The orders that a trainer got; it fits nothing."""
    orders: list[dict[str, Any]] = []

    def train(spec: dict[str, Any], _observer: object, _title: str) -> None:
        orders.append(spec)
        data = load_dataset(spec["dataset"], spec["dataset_options"], Path(spec["cache_dir"]))
        torch.manual_seed(1)
        save_weights(Path(spec["out"]), weights_of(build_model(CONFIG, data.schema)))

    monkeypatch.setattr(weights, "_train", train)
    return orders


def served(folder: Path, copies: int, data: Dataset) -> tuple[Path, Path]:
    trial, options = trial_and_options(folder, copies)
    trained = weights.ensure_weights(trial, CONFIG, data, options, Silent())
    return trained, weights.in_copies(trial, CONFIG, data, trained, options, Silent())


def test_copies_are_written_once_from_the_weights_of_one(tmp_path: Path, trained: list[dict[str, Any]]) -> None:
    data = load_dataset("planted", {**SMALL, "table_copies": COPIES}, tmp_path)
    small, large = served(tmp_path, COPIES, data)
    assert served(tmp_path, COPIES, data) == (small, large) and small != large
    alone = load_dataset("planted", SMALL, tmp_path)
    assert served(tmp_path, 1, alone) == (small, small)  # they are those of the data set without copies
    assert len(trained) == 1 and trained[0]["dataset_options"]["table_copies"] == 1
    before, after = load_weights(small), load_weights(large)
    for name, rows in data.schema.tables().items():
        table, copied = before[f"embedding.tables.{name}.weight"], after[f"embedding.tables.{name}.weight"]
        assert len(copied) == rows
        assert np.array_equal(copied, np.concatenate([table[:1], *[table[1:]] * ((rows - 1) // (len(table) - 1))]))


def test_other_copies_and_other_rows_are_other_files(tmp_path: Path, trained: list[dict[str, Any]]) -> None:
    files = set()
    for copies in (2, COPIES):
        data = load_dataset("planted", {**SMALL, "table_copies": copies}, tmp_path)
        files.add(served(tmp_path, copies, data)[1])
        files.add(served(tmp_path, copies, dataclasses.replace(data, fingerprint="other"))[1])
    assert len(files) == 4


def test_a_full_disk_is_one_paragraph(
    tmp_path: Path, trained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    data = load_dataset("planted", {**SMALL, "table_copies": COPIES}, tmp_path)
    with pytest.raises(ConfigurationError, match=r"0.00 GB are free.*choose fewer dataset.table_copies"):
        served(tmp_path, COPIES, data)
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_two_runs_that_train_the_same_at_one_time_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run trains while the trainer of this one is at work: they write apart, and one whole file is left."""
    out, written = tmp_path / "weights" / "key.npz", list[Path]()
    spec = {"model": {"name": "dlrm"}, "out": str(out)}

    def job(module: str, order: dict[str, Any], title: str, follow: object) -> None:
        written.append(Path(order["out"]))
        if len(written) == 1:
            weights._train(spec, Silent(), "dlrm")
        save_weights(Path(order["out"]), {"w": np.ones(3, np.float32)})

    monkeypatch.setattr(weights, "run_job", job)
    weights._train(spec, Silent(), "dlrm")
    assert len({*written, out}) == 3 and list(out.parent.iterdir()) == [out]
    np.testing.assert_array_equal(load_weights(out)["w"], np.ones(3))


def test_a_training_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def job(module: str, order: dict[str, Any], title: str, follow: object) -> None:
        Path(order["out"]).write_bytes(b"half")
        raise RuntimeError("the trainer was killed")

    monkeypatch.setattr(weights, "run_job", job)
    with pytest.raises(RuntimeError, match="was killed"):
        weights._train({"model": {"name": "dlrm"}, "out": str(tmp_path / "weights" / "key.npz")}, Silent(), "dlrm")
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_training_goes_on_where_it_was_ended_and_its_state_goes_with_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is killed at step 60 of 80; the second one is told of a state beside the weights' place."""
    out, told = tmp_path / "weights" / "dlrm-key.npz", Told()
    state, seen = tmp_path / "weights" / "dlrm-key.state", list[bool]()

    def job(module: str, order: dict[str, Any], title: str, follow: Callable[[dict[str, Any]], None]) -> None:
        assert order["state"] == str(state)
        seen.append(state.exists())
        progress = {"event": "progress", "steps": 80, "loss": 0.5, "valid_auc": None}
        if len(seen) == 1:
            state.write_bytes(b"the state after step 50")
            (state.parent / f".{state.name}-77").write_bytes(b"half of the state after step 60")
            raise KeyboardInterrupt
        follow({"event": "warning", "text": "slow disk"})
        for step in (50, 80):
            follow({**progress, "step": step, "resumed": step == 50})
        save_weights(Path(order["out"]), {"w": np.ones(3, np.float32)})

    monkeypatch.setattr(weights, "run_job", job)
    with pytest.raises(KeyboardInterrupt):
        weights._train({"model": {"name": "dlrm"}, "out": str(out)}, told, "dlrm")
    weights._train({"model": {"name": "dlrm"}, "out": str(out)}, told, "dlrm")
    assert seen == [False, True] and list(out.parent.iterdir()) == [out]
    assert (told.stages, told.advanced, told.warnings) == (["training dlrm, resumed at step 50"], 80, ["slow disk"])
