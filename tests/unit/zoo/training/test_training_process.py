from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.checkpoint import load_weights
from zoo.configs import DlrmConfig
from zoo.datasets import load_dataset
from zoo.metrics import auc
from zoo.models import build_model
from zoo.prediction import predict
from zoo.training import load_into


def _spec(folder: Path, **changes: object) -> Path:
    spec = {
        "model": {"name": "dlrm", "embedding_dim": 4, "bottom_units": [8, 4], "top_units": [8]},
        "dataset": "planted",
        "dataset_options": {"shape": "pointwise", "size": "tiny"},
        "cache_dir": str(folder / "cache"),
        "training": {"max_epochs": 1, "batch_size": 100, "threads": 1},
        "out": str(folder / "weights.npz"),
    }
    path = folder / "spec.json"
    path.write_text(json.dumps({**spec, **changes}))
    return path


def _run(spec: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zoo.training", str(spec)], capture_output=True, text=True, check=False
    )


def test_the_child_writes_weights_that_score_as_reported(tmp_path: Path) -> None:
    done = _run(_spec(tmp_path))
    assert done.returncode == 0, done.stderr
    *progress, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in progress} == {"progress"} and last["event"] == "done"
    assert progress[-1]["step"] == progress[-1]["steps"] == last["steps"] == 40
    assert [event["step"] for event in progress] == sorted(event["step"] for event in progress)
    dataset = load_dataset("planted", {"shape": "pointwise", "size": "tiny"}, tmp_path / "cache")
    model = build_model(DlrmConfig(embedding_dim=4, bottom_units=(8, 4), top_units=(8,)), dataset.schema)
    load_into(model, load_weights(Path(last["path"])))
    valid_auc = auc(dataset.valid.labels, predict(model, dataset.valid))
    assert valid_auc == pytest.approx(last["valid_auc"], abs=1e-9)
    assert not np.isnan(valid_auc)


def test_a_bad_spec_fails_and_leaves_nothing(tmp_path: Path) -> None:
    done = _run(_spec(tmp_path, training={"learning_rate": 1}))
    assert done.returncode != 0
    assert "training has no setting 'learning_rate'" in done.stderr
    assert not list(tmp_path.glob("weights*"))
