"""Peers that build their model from weights: torch.compile from ours, others from those of their own trainers.

By request: compiling takes a minute, and the packages are extras. ``pytest -m slow tests/parity/test_peer_models.py``.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.backends.catalogue import load_backend
from harness.backends.peers.catalogue import PEERS, missing_packages
from harness.backends.peers.plans import peer_plan
from harness.trial import PEER
from optimizations.lowering import LoweringContext
from tests.parity.graph_serving import without_history
from zoo.checkpoint import load_weights
from zoo.configs import model_config
from zoo.datasets import load_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SMALL: dict[str, dict[str, Any]] = {
    "wdl": {"embedding_dim": 8, "large_dim": 16, "deep_units": [64, 32]},
    "din": {"embedding_dim": 8, "attention_units": [16, 8], "top_units": [32, 16]},
    "dien": {"embedding_dim": 8, "hidden_units": 16, "attention_units": [16, 8], "top_units": [32, 16]},
}


def session_of(context: LoweringContext, name: str, settings: str) -> Any:
    """The peer with two workers of one thread, or as it comes."""
    plan = peer_plan({"name": name, "settings": settings}, context.config, context.schema, frozenset())
    if plan.pipeline.runtime.undecided:
        runtime = dataclasses.replace(plan.pipeline.runtime, workers=2, threads=1)
        plan = dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, runtime=runtime))
    return load_backend(PEER).lower(plan, context)


@pytest.mark.parametrize("settings", ["stock", "best"])
@pytest.mark.parametrize("model", ["wdl", "din", "dlrm"])
def test_compiled_models_give_the_scores_of_eager(
    planted: Callable[[str], Any], tmp_path: Path, model: str, settings: str
) -> None:
    """Queries of one user and 1 to 100 candidates, histories of every length among them."""
    import torch._dynamo.utils

    served = planted(model)
    eager = served.session({})
    context = dataclasses.replace(served.context, threads=2, cache_dir=tmp_path)
    session = session_of(context, "torch_compile", settings)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    split = served.split
    for group in range(len(split.groups) - 1):
        for size in (1, 2, 7, 50, 100):
            batch = split.batch(split.groups[group] + np.arange(size))
            scores = session.predict(batch)
            assert scores.shape == (size,)
            np.testing.assert_allclose(scores, eager.predict(batch), rtol=0, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before  # all was compiled before the first query


@pytest.mark.parametrize(("peer", "model"), [(n, m) for n, p in PEERS.items() if p.trainer for m in p.models])
def test_a_model_of_its_own_learns_and_is_served_as_it_was_trained(tmp_path: Path, peer: str, model: str) -> None:
    if missing := missing_packages(peer):
        pytest.skip(f"{', '.join(missing)} not installed: pip install '{PEERS[peer].requirement}'")
    shape = "pointwise" if model == "wdl" else "sequence"
    options = {"shape": shape, "size": "tiny"}
    spec = {
        "model": {"name": model, **SMALL[model]},
        "dataset": "planted",
        "dataset_options": options,
        "cache_dir": str(tmp_path),
        "out": str(tmp_path / "model.npz"),
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", PEERS[peer].trainer, str(tmp_path / "spec.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *progress, last = (json.loads(line) for line in done.stdout.splitlines())
    assert last["event"] == "done" and last["valid_auc"] == max(event["valid_auc"] for event in progress)
    data = load_dataset("planted", options, tmp_path)
    context = LoweringContext(
        schema=data.schema,
        config=model_config(model, SMALL[model]),
        weights=load_weights(tmp_path / "model.npz"),
        calibration=None,
        cache_dir=tmp_path,
        device="cpu",
        threads=2,
    )
    session, scores = session_of(context, peer, "best"), []
    split = data.valid
    for group in range(len(split.groups) - 1):
        batch = split.batch(np.arange(split.groups[group], split.groups[group + 1]))
        scores.append(session.predict(batch))
    assert roc_auc_score(split.labels, np.concatenate(scores)) == pytest.approx(last["valid_auc"], abs=1e-6)
    first = split.batch(np.arange(3))
    nobody = without_history(first)
    assert np.isfinite(session.predict(nobody)).all() and session.predict(nobody).shape == (3,)
    assert np.ptp(np.concatenate(scores)) > 1e-3
