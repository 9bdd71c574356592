"""Which peers there are: what each serves, needs and can be set to. Nothing here imports a framework.

A peer is a package of other people that a trial measures under the same referee. It serves our weights, or it brings a
model of its own, trained by its own trainer on the same rows.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.catalogue import Graph
from harness.errors import ConfigurationError
from optimizations.contract import Runtime
from zoo.configs import MODELS
from zoo.onnx.graph_cache import EXPORTERS

FOLDER = Path(__file__).parent
PEER_TOLERANCE = 1e-5
"""How far the scores of a peer with our weights, in fp32, may be from PyTorch's."""
TUNED = Runtime(executor="auto", workers=0, threads=0)
"""As many queries at a time, of as many threads each, as this machine serves fastest: ``executor=auto``."""
TRAINING = ("sample_matrix.py", "trained_arrays.py", "training_job.py")
"""What shapes the models of all peers that train."""
FLUSHED = {"session.set_denormal_as_zero": "1"}
ALL_CORES = Runtime()
"""One query at a time on all cores, as every framework starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run a peer.

    runtime: threads and workers of its process. dtype: that of its products, "bf16" only where the processor has them.
    options: what its module is told, JSON values. quantizer: the module (``python -m``) that rewrites its graph before,
    "" for none; operators: those that it rewrites.
    """

    summary: str
    runtime: Runtime = ALL_CORES
    dtype: str = "fp32"
    options: Mapping[str, Any] = field(default_factory=dict)
    quantizer: str = ""
    operators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What is known of a peer before it is loaded.

    summary: one line for ``--help``. packages: what it imports. graph: the form of the exported graph that it serves,
    None where it builds from weights. trainer: the module (``python -m``) that trains a model of its own, "" for one
    that serves our weights; shaped_by: files of this folder that shape what it leaves. models: those it has. start_s:
    how long it may take to be ready. requirement: what pip calls all that it needs.
    """

    summary: str
    packages: tuple[str, ...]
    settings: Mapping[str, Setting]
    graph: Graph | None = None
    trainer: str = ""
    shaped_by: tuple[str, ...] = ()
    models: tuple[str, ...] = tuple(MODELS)
    start_s: float = 300.0
    requirement: str = "recarena[peers]"

    @property
    def same_weights(self) -> bool:
        """Whether its scores have to be ours."""
        return not self.trainer


PEERS: dict[str, Peer] = {
    "ort_stock": Peer(
        summary="ONNX Runtime on the exported graph, our weights",
        packages=("onnxruntime",),
        graph="raw",
        settings={
            "stock": Setting(summary="its defaults (all graph optimizations), all cores for each query"),
            "best": Setting(
                summary="threads and queries at a time as tuned here; subnormal numbers flushed",
                runtime=TUNED,
                options={"session": FLUSHED},
            ),
            "best_int8": Setting(
                summary="the same, its products on bytes by its own quantizer (dynamic)",
                runtime=TUNED,
                dtype="int8",
                options={"session": FLUSHED},
                quantizer="harness.backends.peers.ort_quantizer",
                operators=("MatMul",),
            ),
        },
    ),
    "openvino_stock": Peer(
        summary="OpenVINO on the exported graph, ids hashed before it, our weights",
        packages=("openvino",),
        graph="rows",
        settings={
            "stock": Setting(summary="its defaults (the latency hint), but in fp32"),
            "best": Setting(
                summary="streams and threads as tuned here, which is what its hints choose; in fp32", runtime=TUNED
            ),
            "best_bf16": Setting(
                summary="the same with its own default precision where the processor multiplies bfloat16",
                runtime=TUNED,
                dtype="bf16",
            ),
        },
    ),
    "torch_compile": Peer(
        summary="torch.compile of the padded model, our weights",
        packages=("torch",),
        start_s=1800.0,
        settings={
            "stock": Setting(summary="its defaults with dynamic shapes, all cores for each query"),
            "best": Setting(
                summary="frozen weights, max-autotune; threads and queries at a time as tuned here",
                runtime=TUNED,
                options={"inductor": {"freezing": True, "max_autotune": True}},
            ),
        },
    ),
    "deepctr_torch": Peer(
        summary="deepctr-torch's own WDL, DIN, DIEN, trained by its own fit",
        packages=("deepctr_torch",),
        trainer="harness.backends.peers.deepctr_trainer",
        shaped_by=("deepctr_*.py", *TRAINING),
        models=("wdl", "din", "dien"),
        settings={
            "stock": Setting(summary="PyTorch's defaults, all cores for each query"),
            "best": Setting(summary="threads and queries at a time as tuned here", runtime=TUNED),
        },
    ),
    "fuxictr": Peer(
        summary="FuxiCTR's own DIN and DIEN, trained by its own fit",
        packages=("fuxictr",),
        trainer="harness.backends.peers.fuxictr_trainer",
        shaped_by=("fuxictr_*.py", *TRAINING),
        models=("din", "dien"),
        requirement="recarena[fuxictr]",
        settings={
            "stock": Setting(summary="PyTorch's defaults, all cores for each query"),
            "best": Setting(summary="threads and queries at a time as tuned here", runtime=TUNED),
        },
    ),
}
"""By the name on the command line. ``harness/backends/peers/<name>.py`` serves it."""


def peer_named(name: str) -> Peer:
    """The peer. Raises ConfigurationError for one that there is not."""
    if name not in PEERS:
        raise ConfigurationError(f"peer={name} is unknown{_nearest(name, PEERS)}; available: {', '.join(PEERS)}")
    return PEERS[name]


def setting_named(name: str, setting: str) -> Setting:
    """The setting of a peer. Raises ConfigurationError for one that there is not."""
    found = peer_named(name).settings
    if setting not in found:
        raise ConfigurationError(
            f"peer.settings={setting} is unknown{_nearest(setting, found)}; peer={name} has: {', '.join(found)}"
        )
    return found[setting]


def same_weights(peer: Mapping[str, str]) -> bool:
    """Whether both sides of a trial with ``peer`` (its part of the trial, empty without one) have the same weights."""
    return not peer or peer_named(peer["name"]).same_weights


def missing_packages(name: str) -> list[str]:
    """Packages that the known peer ``name`` needs to be made and to serve and that are not installed, sorted."""
    peer = PEERS[name]
    needed = {*peer.packages, *(EXPORTERS if peer.graph else ())}
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)


def require_peer(name: str, setting: str, model: str, device: str) -> None:
    """Raises ConfigurationError where the peer or its setting is unknown, has not this model, does not run on
    ``device``, or is not installed."""
    peer = peer_named(name)
    setting_named(name, setting)
    if model not in peer.models:
        able = [other for other, found in PEERS.items() if model in found.models]
        raise ConfigurationError(
            f"peer={name} model={model}: it has {', '.join(peer.models)} only; {model} is served by "
            f"peer={', '.join(able)}"
        )
    if device != "cpu":
        raise ConfigurationError(f"peer={name} device={device}: peers are measured on device=cpu only")
    if missing := missing_packages(name):
        raise ConfigurationError(
            f"peer={name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install '{peer.requirement}', or choose another peer"
        )


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
