"""The model that a peer trains: once per everything that shapes it, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from harness.backends.peers import catalogue
from harness.backends.peers.catalogue import PEERS, Peer
from harness.measurement import peer_models
from harness.measurement.peer_models import ensure_peer_model, peer_model_file, training_facts
from harness.measurement.preparation import form_of, sides_of
from harness.trial import Sla, Trial
from zoo.configs import WdlConfig
from zoo.datasets import load_dataset
from zoo.schema import Dataset

CONFIG = WdlConfig(large_fields=())
TRIAL = Trial(
    model="wdl",
    sizes={},
    dataset="planted",
    dataset_options={"shape": "pointwise", "size": "tiny"},
    dataset_fingerprint="",
    training={},
    weights="",
    backend="peer",
    device="cpu",
    scope="serve",
    opts={},
    scenario="server",
    query_sizes="heavy",
    sla=Sla(limit_ms=25.0),
    seed=1,
    budget="smoke",
    peer={"name": "learner", "settings": "stock"},
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("planted", TRIAL.dataset_options, Path("unused"))


@pytest.fixture(autouse=True)
def learner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A peer with a trainer; returns the file that shapes what it leaves."""
    code = tmp_path / "code" / "learner_columns.py"
    code.parent.mkdir()
    code.write_text("width = 1\n")
    peer = Peer(
        summary="", packages=("numpy",), trainer="no_such_trainer", shaped_by=("learner_*.py",),
        settings=PEERS["ort_stock"].settings,
    )  # fmt: skip
    monkeypatch.setitem(catalogue.PEERS, "learner", peer)
    monkeypatch.setattr(peer_models, "FOLDER", code.parent)
    return code


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The orders that a trainer got."""
    orders: list[Mapping[str, Any]] = []

    def train(module: str, spec: Mapping[str, Any], title: str, follow: Any) -> None:
        assert (module, title) == ("no_such_trainer", "The training of wdl by learner")
        orders.append(spec)
        for epoch in (1, 2):
            follow({"event": "progress", "epoch": epoch, "epochs": 10, "valid_auc": 0.5 + epoch / 10})
        follow({"event": "done", "epochs": 2, "valid_auc": 0.7})
        Path(spec["out"]).write_bytes(b"arrays")

    monkeypatch.setattr(peer_models, "run_job", train)
    return orders


def ensure(tmp_path: Path, data: Dataset, observer: Any = None) -> Path:
    options: Any = Mock(cache_dir=tmp_path / "cache")
    return ensure_peer_model(TRIAL, CONFIG, data, options, observer or Mock())


def test_it_is_trained_once_and_what_its_trainer_said_is_kept(
    tmp_path: Path, data: Dataset, trained: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter([5_000_000_000, 12_500_000_000])
    monkeypatch.setattr(peer_models, "now_ns", lambda: next(stamps))
    observer = Mock()
    made = ensure(tmp_path, data, observer)
    assert made == ensure(tmp_path, data) and made.read_bytes() == b"arrays" and len(trained) == 1
    assert training_facts(made) == {"epochs": 2, "valid_auc": 0.7, "seconds": pytest.approx(7.5)}
    assert trained[0]["model"]["name"] == "wdl" and trained[0]["dataset_options"] == TRIAL.dataset_options
    assert [call.args[0] for call in observer.advance.call_args_list] == [1, 1]
    assert sorted(path.name for path in made.parent.iterdir()) == [made.with_suffix(".json").name, made.name]


def test_whatever_shapes_it_is_in_its_name(tmp_path: Path, data: Dataset, learner: Path) -> None:
    first = peer_model_file(tmp_path, "learner", CONFIG, data)
    assert first == peer_model_file(tmp_path, "learner", CONFIG, data)
    others = {
        peer_model_file(tmp_path, "learner", dataclasses.replace(CONFIG, embedding_dim=3), data),
        peer_model_file(tmp_path, "learner", CONFIG, dataclasses.replace(data, fingerprint="other")),
        peer_model_file(
            tmp_path,
            "learner",
            CONFIG,
            dataclasses.replace(data, schema=dataclasses.replace(data.schema, max_history=3)),
        ),
    }
    learner.write_text("width = 1  # a comment\n")
    assert peer_model_file(tmp_path, "learner", CONFIG, data) == first
    learner.write_text("width = 2\n")
    others.add(peer_model_file(tmp_path, "learner", CONFIG, data))
    assert len({first, *others}) == 5


def test_a_failure_leaves_nothing(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: str, spec: Mapping[str, Any], title: str, follow: Any) -> None:
        Path(spec["out"]).write_bytes(b"half")
        raise RuntimeError(f"{title} ended with code 1")

    monkeypatch.setattr(peer_models, "run_job", fail)
    with pytest.raises(RuntimeError, match="The training of wdl by learner ended"):
        ensure(tmp_path, data)
    assert list((tmp_path / "cache" / "peers").iterdir()) == []


def test_each_side_is_given_what_it_serves() -> None:
    """Graphs by their form: the peer's own, or that of the backend beside it."""
    ours = dataclasses.replace(
        TRIAL, backend="openvino", opts={"executor": {}}, peer={**TRIAL.peer, "name": "ort_stock"}
    )
    assert {side: form_of(one) for side, one in sides_of(ours).items()} == {"baseline": "raw", "candidate": "rows"}
    measured = dataclasses.replace(TRIAL, peer={**TRIAL.peer, "name": "openvino_stock"})
    assert {side: form_of(one) for side, one in sides_of(measured).items()} == {"baseline": None, "candidate": "rows"}
    alone = dataclasses.replace(TRIAL, backend="torch", peer={})
    assert list(sides_of(alone)) == ["baseline"]
    assert json.loads(json.dumps(sides_of(measured)["candidate"].peer)) == measured.peer
