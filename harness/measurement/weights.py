"""The weights that both sides serve: the user's own file, the cache, or a training child. Imports no framework."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.console.observer import Observer
from harness.errors import ConfigurationError
from harness.options import RunOptions
from harness.trial import Trial
from zoo.checkpoint import checkpoint_key
from zoo.configs import ModelConfig
from zoo.schema import Dataset
from zoo.training_config import training_config


def ensure_weights(
    trial: Trial, config: ModelConfig, dataset: Dataset, options: RunOptions, observer: Observer
) -> Path:
    """Path of the ``.npz`` or ``.pt`` to serve; trains it first when neither the user nor the cache has it.

    Raises ConfigurationError for a missing user file, RuntimeError with the child's last words when training fails.
    """
    if options.weights_file:
        path = Path(options.weights_file)
        if not path.is_file():
            raise ConfigurationError(f"model.weights={path} does not exist: give a .npz or .pt file of named arrays")
        return path
    training = training_config(trial.model, trial.training)
    key = checkpoint_key(config, dataset.schema, training, dataset.fingerprint)
    path = options.cache_dir / "weights" / f"{trial.model}-{key[:24]}.npz"
    if not path.exists():
        _train(_training_spec(trial, config, asdict(training), options.cache_dir, path), observer)
    return path


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _training_spec(
    trial: Trial, config: ModelConfig, training: Mapping[str, Any], cache_dir: Path, out: Path
) -> dict[str, Any]:
    return {
        "model": asdict(config),
        "dataset": trial.dataset,
        "dataset_options": dict(trial.dataset_options),
        "cache_dir": str(cache_dir),
        "training": dict(training),
        "out": str(out),
    }


def _train(spec: Mapping[str, Any], observer: Observer) -> None:
    """Run the training child and pass its progress on. The child dies with this process's wish to wait."""
    with tempfile.TemporaryDirectory(prefix="recarena-") as folder, tempfile.TemporaryFile("w+") as errors:
        file = Path(folder) / "training.json"
        file.write_text(json.dumps(spec), "utf-8")
        command = [sys.executable, "-m", "optimizations.trainer", str(file)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=dict(os.environ), start_new_session=True
        )
        try:
            _follow(child, str(spec["model"]["name"]), observer)
            code = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
        if code != 0:
            errors.seek(0)
            raise RuntimeError(
                f"The training of {spec['model']['name']} ended with code {code}.\n{errors.read()[-4000:]}"
            )


def _follow(child: subprocess.Popen[str], model: str, observer: Observer) -> None:
    assert child.stdout is not None
    step = 0
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] != "progress":
            continue
        if step == 0:
            observer.stage(f"training {model}", total=event["steps"], unit="steps")
        auc = f", validation AUC {event['valid_auc']:.4f}" if event["valid_auc"] is not None else ""
        observer.advance(event["step"] - step, f"loss {event['loss']:.4f}{auc}")
        step = event["step"]
