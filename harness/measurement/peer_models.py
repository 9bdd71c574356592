"""The model that a peer trains by itself: from the cache, or from a child that runs its trainer. No framework."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.backends.peers.catalogue import FOLDER, peer_named
from harness.clock import now_ns
from harness.console.observer import Observer
from harness.measurement.child_job import Event, run_job
from harness.options import RunOptions
from harness.trial import Trial
from zoo.configs import ModelConfig
from zoo.schema import Dataset
from zoo.source_code import code_sha256


def ensure_peer_model(
    trial: Trial, config: ModelConfig, dataset: Dataset, options: RunOptions, observer: Observer
) -> Path:
    """Path of the ``.npz`` that the trainer of the trial's peer has left; ``training_facts`` lie beside it.

    Raises RuntimeError with the child's last words when the training fails.
    """
    name = trial.peer["name"]
    path = peer_model_file(options.cache_dir, name, config, dataset)
    if not path.exists():
        spec = {
            "model": dataclasses.asdict(config),
            "dataset": trial.dataset,
            "dataset_options": dict(trial.dataset_options),
            "cache_dir": str(options.cache_dir),
        }
        _train(name, spec, path, observer)
    return path


def peer_model_file(cache_dir: Path, name: str, config: ModelConfig, dataset: Dataset) -> Path:
    """Where the model of the peer ``name`` lies in the cache, by the hash of everything that shapes it: sizes, schema,
    rows, the code that gives it its columns, and the versions of what trains it."""
    peer = peer_named(name)
    parts = {
        "peer": name,
        "model": dataclasses.asdict(config),
        "schema": json.loads(dataset.schema.to_json()),
        "dataset": dataset.fingerprint,
        "code": code_sha256(FOLDER, peer.shaped_by),
        "versions": [version(package.replace("_", "-")) for package in ("torch", *peer.packages)],
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return cache_dir / "peers" / f"{name}-{config.name}-{digest[:24]}.npz"


def training_facts(path: Path) -> dict[str, Any]:
    """What is known of the training that left ``path``: "seconds", and what its trainer has told."""
    file = path.with_suffix(".json")
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found


def _train(name: str, spec: Mapping[str, Any], path: Path, observer: Observer) -> None:
    """Run the trainer in a folder beside ``path`` and pass its progress on; the model's own name comes last."""
    told: dict[str, Any] = {}
    done, model = 0, spec["model"]["name"]

    def follow(event: Event) -> None:
        nonlocal done
        if event["event"] == "done":
            told.update({key: value for key, value in event.items() if key != "event"})
            return
        if done == 0:  # only now it is known how many epochs there may be
            observer.stage(f"{name} trains its {model}", total=event["epochs"], unit="epochs")
        observer.advance(event["epoch"] - done, f"validation AUC {event['valid_auc']:.4f}")
        done = event["epoch"]

    path.parent.mkdir(parents=True, exist_ok=True)
    observer.stage(f"{name} trains its {model}", total=None)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        made, started = Path(folder) / path.name, now_ns()
        run_job(peer_named(name).trainer, {**spec, "out": str(made)}, f"The training of {model} by {name}", follow)
        facts = {**told, "seconds": (now_ns() - started) * 1e-9}
        made.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
        made.with_suffix(".json").replace(path.with_suffix(".json"))
        made.replace(path)
