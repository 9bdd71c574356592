"""Which backends there are, what each needs, and how one is loaded. Nothing here imports a framework."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from harness.backends.protocol import Backend, TrainBackend
from harness.errors import ConfigurationError
from harness.trial import PEER
from zoo.onnx.graph_cache import EXPORTERS

Graph = Literal["raw", "rows"]
"""What an exported graph takes: raw columns, or table rows in place of raw ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """What is known of a backend before it is loaded.

    summary: one line for ``--help``. packages: what it imports; requirement: what pip calls all that it needs.
    graph: the exported graph that it serves, which takes ``EXPORTERS`` to make; None where it builds from the weights.
    trains: whether it has ``scope=train``. state_dicts: whether weights may lie in a PyTorch file, which PyTorch reads.
    """

    summary: str
    packages: tuple[str, ...]
    requirement: str
    devices: tuple[str, ...] = ("cpu",)
    graph: Graph | None = None
    trains: bool = False
    state_dicts: bool = True


BACKENDS: dict[str, BackendEntry] = {
    "torch": BackendEntry(
        summary="PyTorch, the reference; all optimizations (default)",
        packages=("torch",),
        requirement="recarena",
        devices=("cpu", "cuda"),
        trains=True,
    ),
    "onnxruntime": BackendEntry(
        summary="ONNX Runtime on the exported graph; pip install 'recarena[onnx]'",
        packages=("onnxruntime",),
        requirement="recarena[onnx]",
        graph="raw",
    ),
    "openvino": BackendEntry(
        summary="OpenVINO on the exported graph, ids hashed before it; pip install 'recarena[openvino]'",
        packages=("openvino",),
        requirement="recarena[openvino]",
        graph="rows",
    ),
    "tensorflow": BackendEntry(
        summary="TensorFlow, the same models from the same weights; pip install 'recarena[tf]'",
        packages=("tensorflow",),
        requirement="recarena[tf]",
        state_dicts=False,
    ),
    PEER: BackendEntry(
        summary="a package of other people, or a runtime as it comes: peer=NAME (docs/peers.md)",
        packages=(),
        requirement="recarena[peers]",
    ),
}


def missing_packages(name: str) -> list[str]:
    """Packages that the backend ``name`` needs to export and to serve and that are not installed, sorted."""
    entry = BACKENDS[name]
    needed = {*entry.packages, *(EXPORTERS if entry.graph else ())}
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)


def require_backend(name: str, device: str) -> None:
    """Raises ConfigurationError where the known backend ``name`` is not installed or does not run on ``device``."""
    entry = BACKENDS[name]
    if missing := missing_packages(name):
        raise ConfigurationError(
            f"backend={name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install '{entry.requirement}', or say backend=torch"
        )
    if device not in entry.devices:
        able = sorted(other for other, found in BACKENDS.items() if device in found.devices)
        raise ConfigurationError(
            f"backend={name} runs on device={' or '.join(entry.devices)}, not on device={device}: change one of them "
            f"(device={device}: backend={', '.join(able)})"
        )


def require_weights(name: str, path: str) -> None:
    """Raises ConfigurationError where the known backend ``name`` cannot read the user's weights at ``path``, if any."""
    if path and not path.endswith(".npz") and not BACKENDS[name].state_dicts:
        raise ConfigurationError(
            f"backend={name} model.weights={path}: it serves without PyTorch, which a state dict needs; save "
            "the arrays as .npz (numpy.savez of names and arrays), or say backend=torch"
        )


def require_training(name: str) -> None:
    """Raises ConfigurationError where the known backend ``name`` only serves."""
    if not BACKENDS[name].trains:
        able = sorted(other for other, found in BACKENDS.items() if found.trains)
        raise ConfigurationError(f"backend={name} scope=train: it serves only; use backend={', '.join(able)}")


def load_backend(name: str) -> Backend:
    """Import the backend ``name`` with its framework. Raises ConfigurationError: unknown, or not installed."""
    backend: Backend = _imported(name, "backend")
    return backend


def load_train_backend(name: str) -> TrainBackend:
    """Import the training of backend ``name``. Raises ConfigurationError as ``load_backend``."""
    backend: TrainBackend = _imported(name, "training")
    return backend


def _imported(name: str, what: str) -> Any:
    if name not in BACKENDS:
        raise ConfigurationError(f"backend={name} is not known: use one of {', '.join(sorted(BACKENDS))}")
    try:
        return importlib.import_module(f"harness.backends.{name}_{what}")
    except ImportError as error:
        raise ConfigurationError(
            f"backend={name} cannot be loaded ({error}): install it with pip install '{BACKENDS[name].requirement}'"
        ) from error
