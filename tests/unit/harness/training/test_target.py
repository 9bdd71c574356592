"""The stored seeds of the plain loop: trained and judged once, then read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from harness.training import target
from harness.training.target import BASELINE_SEEDS, Target, ensure_target
from harness.trial import Sla, Trial
from zoo.training_config import TrainingConfig


def trial(**changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "model": "dlrm", "sizes": {}, "dataset": "planted", "dataset_options": {}, "dataset_fingerprint": "x",
        "training": {"batch_size": 64, "seed": 7}, "weights": "", "backend": "torch", "device": "cpu",
        "scope": "train", "opts": {}, "scenario": "server", "query_sizes": "heavy", "sla": Sla(limit_ms=25.0),
        "seed": 1, "budget": "quick", "train_seeds": 1,
    }  # fmt: skip
    return Trial(**{**fields, **changes})


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``ask(trial)``: the target, the seeds that were trained and the files that were judged for it."""
    weights, trained, judged = tmp_path / "weights", list[int](), list[str]()
    weights.mkdir()

    def ensure(trial: Trial, *_: object, samples: int, title: str) -> Path:
        seed = trial.training["seed"]
        assert f"seed {seed}" in title and samples == 2_000_000 and trial.training["batch_size"] == 64
        trained.append(seed)
        return weights / f"dlrm-{seed}.npz"

    def judge(path: Path) -> float:
        judged.append(path.stem)
        return 0.7 + 0.01 * int(path.stem.removeprefix("dlrm-"))

    monkeypatch.setattr(target, "ensure_weights", ensure)

    def asked(of: Trial) -> tuple[Target, list[int], list[str]]:
        trained.clear()
        judged.clear()
        what = SimpleNamespace(trial=of, config=None, dataset=None, training=TrainingConfig(seed=7))
        return ensure_target(what, Mock(), Mock(), judge), list(trained), list(judged)

    return asked


def test_the_seeds_are_those_that_follow_the_trials_and_judged_once(ask, tmp_path: Path) -> None:
    found, trained, judged = ask(trial())
    assert BASELINE_SEEDS == 5 and found.seeds == (7, 8, 9, 10, 11)
    assert trained == list(found.seeds) and judged == [f"dlrm-{seed}" for seed in found.seeds]
    assert found.valid_aucs == pytest.approx([0.77, 0.78, 0.79, 0.80, 0.81])
    assert found.auc == pytest.approx(0.79 - 0.001)
    again, _, judged = ask(trial())
    assert again == found and judged == []
    assert json.loads((tmp_path / "weights" / "dlrm-9.auc.json").read_text())["valid_auc"] == pytest.approx(0.79)


@pytest.mark.parametrize("content", ["", "[]", '{"auc": 1}', '{"valid_auc": null}'])
def test_a_file_that_cannot_be_read_is_made_anew(ask, tmp_path: Path, content: str) -> None:
    found, _, _ = ask(trial())
    (tmp_path / "weights" / "dlrm-9.auc.json").write_text(content)
    again, _, judged = ask(trial())
    assert (again, judged) == (found, ["dlrm-9"])
