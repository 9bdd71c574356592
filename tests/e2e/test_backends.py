"""The main job on another backend: both sides are served by it, and answer what the PyTorch reference answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from harness.backends.catalogue import BACKENDS, missing_packages
from leaderboard.result_check import check_result
from tests.e2e.main_job import MainJob
from zoo.checkpoint import load_weights
from zoo.configs import model_config
from zoo.datasets import load_dataset
from zoo.frozen_model import frozen_model
from zoo.prediction import predict

pytestmark = pytest.mark.e2e
SMALL = ("model.embedding_dim=8", "model.large_dim=16", "model.deep_units=[64,32]")


def weights_of(cache: Path, sha256: str) -> Path:
    """The file of the cache that has this content."""
    files = (cache / "weights").glob("*.npz")
    (found,) = (path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() == sha256)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "exports"), [("onnxruntime", 1), ("tensorflow", 0)])
def test_a_runtime_serves_both_sides_and_answers_as_pytorch(main_job: MainJob, backend: str, exports: int) -> None:
    if missing := missing_packages(backend):
        pytest.skip(f"{', '.join(missing)} not installed: pip install '{BACKENDS[backend].requirement}'")
    main_job = dataclasses.replace(main_job, cache=main_job.folder / "cache")  # others export graphs meanwhile
    done = main_job.run("model=wdl", *SMALL, f"backend={backend}", "opt=[executor]")
    assert done.returncode == 0, done.stdout + done.stderr
    record = main_job.only_record()
    plain, trial = (json.loads((record / f"{name}.json").read_text("utf-8")) for name in ("result", "trial"))
    assert check_result(plain) == []
    assert plain["trial"]["backend"] == trial["backend"] == backend
    assert plain["gate"]["verdict"] == "pass" and plain["ratio"] is not None
    assert plain["plan"][0]["matched"] == ["runtime.executor", "runtime.threads", "runtime.workers"]
    data = load_dataset(trial["dataset"], trial["dataset_options"], main_job.cache)
    weights = load_weights(weights_of(main_job.cache, plain["weights_sha256"]))
    expected = predict(frozen_model(model_config("wdl", trial["sizes"]), data.schema, weights), data.test)
    rows = pq.read_table(record / "predictions.parquet").to_pandas()
    for side in ("baseline", "candidate"):
        own = rows[(rows.side == side) & (rows.run == "accuracy")].sort_values("sample_id")
        assert len(own) == len(data.test) >= 1000
        np.testing.assert_allclose(own.score, expected, rtol=0, atol=1e-5)
        known = np.isfinite(data.test.labels)
        auc = roc_auc_score(data.test.labels[known], expected[known])
        assert auc > 0.5 and plain[side]["auc"] == pytest.approx(auc, abs=5e-5)
    assert len(list((main_job.cache / "graphs").glob("*"))) == exports  # one, which both sides serve
