"""Weights on disk and the key under which they are cached. No framework, except to open a ``.pt`` file."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zoo.array_file import ArrayFileWriter, map_arrays
from zoo.configs import ModelConfig
from zoo.schema import Schema
from zoo.source_code import code_sha256
from zoo.training_config import TrainingConfig

Weights = dict[str, npt.NDArray[Any]]

_ZOO = Path(__file__).parent
_SHAPING = (
    "schema.py",
    "averaging.py",
    "blueprint.py",
    "fitting.py",
    "learning.py",
    "losses.py",
    "metrics.py",
    "optimizers.py",
    "prediction.py",
    "training_batches.py",
    "layers/*.py",
    "models/__init__.py",
    "models/ctr_model.py",
)


def checkpoint_key(
    config: ModelConfig, schema: Schema, training: TrainingConfig, dataset_fingerprint: str, code: str | None = None
) -> str:
    """Hex SHA-256 of all that shapes the weights: sizes, schema, settings, rows, code and PyTorch's version.

    ``code`` defaults to ``code_version(config.name)``.
    """
    parts = {
        "model": asdict(config),
        "schema": json.loads(schema.to_json()),
        "training": asdict(training),
        "dataset": dataset_fingerprint,
        "code": code_version(config.name) if code is None else code,
        "torch": version("torch"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def weights_file(cache_dir: Path, model: str, key: str) -> Path:
    """Where the weights of ``checkpoint_key`` ``key`` lie in the cache."""
    return cache_dir / "weights" / f"{model}-{key[:24]}.npz"


def code_version(model: str, root: Path = _ZOO) -> str:
    """Hex SHA-256 of the sources that shape the weights of ``model``; comments and docstrings do not count."""
    return code_sha256(root, (*_SHAPING, f"models/{model}.py"))


def save_weights(path: Path, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write ``.npz`` (no pickle) with arrays that can be mapped; see ``new_weights_file``."""
    with new_weights_file(path) as file:
        for name, array in weights.items():
            file.add(name, array.shape, array.dtype, (array,))


@contextlib.contextmanager
def new_weights_file(path: Path) -> Iterator[ArrayFileWriter]:
    """Write under a temporary name, then rename: neither a killed process nor a full disk leaves a half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file, ArrayFileWriter(file) as writer:
            yield writer
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


def load_weights(path: Path) -> Weights:
    """Arrays by name from ``.npz``, or from a ``.pt`` / ``.pth`` state dict (read without unpickling code).

    Those of an ``.npz`` that ``save_weights`` wrote are read-only views of the mapped file. Raises ValueError when the
    file cannot be read as such.
    """
    try:
        return map_arrays(path) if path.suffix == ".npz" else _read_state_dict(path)
    except Exception as error:  # the readers raise a dozen types for a damaged file
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}: {error}): give an .npz of named arrays or a "
            ".pt file that torch.save wrote from model.state_dict()"
        ) from error


def _read_state_dict(path: Path) -> Weights:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.detach().numpy() for name, tensor in state.items()}


def check_weights(
    weights: Mapping[str, npt.NDArray[Any]],
    expected: Mapping[str, tuple[int, ...]],
    optional: Collection[str] = (),
) -> None:
    """Raise ValueError that lists every missing, unexpected and wrongly shaped name; ``optional`` ones may lack."""
    missing = sorted(set(expected) - set(weights) - set(optional))
    unexpected = sorted(set(weights) - set(expected))
    wrong = [
        f"{name} is {list(weights[name].shape)}, not {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in weights and tuple(weights[name].shape) != tuple(shape)
    ]
    problems = [
        f"{title}: {', '.join(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if names
    ]
    if problems:
        raise ValueError(
            f"the weights do not fit the model ({'; '.join(problems)}): they were made for other sizes or other data"
        )
