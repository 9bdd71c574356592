"""The weights that both sides serve: the user's own file, the cache, or a training child. Imports no framework."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.console.observer import Observer
from harness.errors import ConfigurationError
from harness.measurement.child_job import Event, run_job
from harness.options import RunOptions
from harness.trial import Trial
from zoo.checkpoint import checkpoint_key, weights_file
from zoo.configs import ModelConfig
from zoo.datasets import fingerprint, table_copies, trained_options
from zoo.datasets.table_copies import without_copies
from zoo.schema import Dataset
from zoo.training_config import training_config
from zoo.training_state import StateFile, state_path
from zoo.widened_weights import widen, widened_bytes


def ensure_weights(
    trial: Trial,
    config: ModelConfig,
    dataset: Dataset,
    options: RunOptions,
    observer: Observer,
    *,
    samples: int | None = None,
    title: str = "",
) -> Path:
    """Path of the ``.npz`` or ``.pt`` of the trained model; trains it first when neither the user nor the cache has it.

    samples: of the training split, at most so many are seen; None: all. title: what is said to be trained, by default
    the model. Where tables are served in copies, these are the weights of one copy (``in_copies``). Raises
    ConfigurationError for a missing user file, RuntimeError with the child's last words when training fails.
    """
    if options.weights_file:
        path = Path(options.weights_file)
        if not path.is_file():
            raise ConfigurationError(f"model.weights={path} does not exist: give a .npz or .pt file of named arrays")
        return path
    training = training_config(trial.model, trial.training)
    schema, rows = dataset.schema, dataset.fingerprint
    if copies := _copies(trial):
        schema = without_copies(schema, copies)
        rows = fingerprint(trial.dataset, trained_options(trial.dataset_options), options.cache_dir)
    first = {}
    if samples is not None and samples < len(dataset.train):
        first, rows = {"samples": samples}, f"{rows}, first {samples} samples"
    path = weights_file(options.cache_dir, trial.model, checkpoint_key(config, schema, training, rows))
    if not path.exists():
        spec = _training_spec(trial, config, asdict(training), options.cache_dir, path)
        _train({**spec, **first}, observer, title or trial.model)
    return path


def in_copies(
    trial: Trial, config: ModelConfig, dataset: Dataset, trained: Path, options: RunOptions, observer: Observer
) -> Path:
    """Path of the weights that are served: ``trained``, or its tables in as many copies as the data set asks for.

    The user's own file is served as it is. Raises ConfigurationError where the disk has no room.
    """
    if not _copies(trial) or options.weights_file:
        return trained
    training = training_config(trial.model, trial.training)
    key = checkpoint_key(config, dataset.schema, training, f"{dataset.fingerprint} from {trained.stem}")
    path = weights_file(options.cache_dir, trial.model, key)
    if not path.exists():
        observer.stage(f"tables of {widened_bytes(trained, dataset.schema) / 1e9:.1f} GB", total=1.0, unit="")
        try:
            widen(trained, dataset.schema, path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(str(error)) from error
    return path


def _copies(trial: Trial) -> int:
    """Copies of the trained tables that are served; 0 where the trained ones themselves are."""
    copies = table_copies(trial.dataset_options)
    return copies if copies > 1 else 0


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
        "dataset_options": trained_options(trial.dataset_options),
        "cache_dir": str(cache_dir),
        "training": dict(training),
        "out": str(out),
    }


def _train(spec: Mapping[str, Any], observer: Observer, title: str) -> None:
    """Run the training child and pass its progress on.

    It writes into a folder of its own: of two runs that train the same weights at one time, neither meets the other's
    half file. A training that was ended goes on from the state that it kept beside the weights' place.
    """
    model, step, out = str(spec["model"]["name"]), 0, Path(spec["out"])
    kept = StateFile(state_path(out), observer.warn)

    def follow(event: Event) -> None:
        nonlocal step
        if event["event"] == "warning":
            observer.warn(event["text"])
        if event["event"] != "progress":
            return
        if step == 0:
            resumed = f", resumed at step {event['step']}" if event["resumed"] else ""
            observer.stage(f"training {title}{resumed}", total=event["steps"], unit="steps")
        auc = f", validation AUC {event['valid_auc']:.4f}" if event["valid_auc"] is not None else ""
        observer.advance(event["step"] - step, f"loss {event['loss']:.4f}{auc}")
        step = event["step"]

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
        made = Path(folder) / out.name
        job = {**spec, "out": str(made), "state": str(kept.path)}
        run_job("optimizations.trainer", job, f"The training of {model}", follow)
        made.replace(out)
    kept.remove()
