"""The exported graph of the weights, for a backend that serves one: from the cache, or from a child that makes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.backends.catalogue import Graph
from harness.backends.peers.catalogue import FOLDER, Setting
from harness.clock import now_ns
from harness.console.observer import Observer
from harness.errors import ConfigurationError
from harness.measurement.child_job import run_job
from harness.measurement.weights import file_sha256
from zoo.configs import ModelConfig
from zoo.onnx.graph_cache import graph_file, graph_folder, graph_key
from zoo.schema import Schema
from zoo.source_code import code_sha256

MADE = "made.json"
QUANTIZERS = ("onnx", "onnxruntime")
"""Packages whose versions shape a quantized graph."""


def ensure_graph(
    form: Graph | None,
    config: ModelConfig,
    schema: Schema,
    weights: Path,
    cache_dir: Path,
    observer: Observer,
    *,
    expand_first: bool = True,
) -> Path | None:
    """Path of the ``.onnx`` of ``weights`` in the ``form`` that is served; None where nothing is exported.

    Sides that copy the user's columns at the same place serve the same file. Raises ConfigurationError for weights that
    do not fit the model, or cannot be read, RuntimeError with the child's last words when the export fails.
    """
    if form is None:
        return None
    rows_given = form == "rows"
    key = graph_key(config, schema, file_sha256(weights), rows_given, expand_first=expand_first)
    folder = graph_folder(cache_dir, config.name, key)
    if not folder.exists():
        spec = {
            "model": dataclasses.asdict(config),
            "schema": schema.to_json(),
            "weights": str(weights.resolve()),
            "rows_given": rows_given,
            "expand_first": expand_first,
        }
        observer.stage(f"exporting {config.name}", total=None)
        _make("zoo.onnx.export", spec, folder, f"The export of {config.name}")
    return graph_file(folder)


def ensure_quantized(graph: Path, setting: Setting, observer: Observer) -> Path:
    """Path of the ``.onnx`` that the quantizer of a peer's ``setting`` makes of ``graph``; ``graph`` without one.

    It lies beside ``graph``'s folder under a name of all that shapes it. Raises RuntimeError when the child fails.
    """
    if not setting.quantizer:
        return graph
    code = code_sha256(FOLDER, [f"{setting.quantizer.rpartition('.')[2]}.py"])
    made_by = [setting.quantizer, code, *setting.operators, *(version(package) for package in QUANTIZERS)]
    digest = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()
    folder = graph.parent.with_name(f"{graph.parent.name}-{digest[:12]}")
    if not folder.exists():
        spec = {"graph": str(graph.resolve()), "operators": list(setting.operators)}
        observer.stage("quantizing", total=None)
        _make(setting.quantizer, spec, folder, "The quantization")
    return graph_file(folder)


def export_seconds(graph: Path | None) -> float | None:
    """How long the child took that made ``graph``, whenever that was; None without one."""
    if graph is None or not (file := graph.parent / MADE).is_file():
        return None
    seconds: float = json.loads(file.read_text("utf-8"))["seconds"]
    return seconds


def _make(module: str, spec: Mapping[str, Any], folder: Path, title: str) -> None:
    """Make the graph beside ``folder``, then rename: a killed process leaves no half graph under its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        made = Path(temporary) / "graph"
        made.mkdir()
        order = {**spec, "out": str(graph_file(made).absolute())}
        started = now_ns()
        run_job(module, order, title, _refuse)
        (made / MADE).write_text(json.dumps({"seconds": (now_ns() - started) * 1e-9}), "utf-8")
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another run has made the same graph meanwhile
                raise


def _refuse(event: Mapping[str, Any]) -> None:
    raise ConfigurationError(str(event["refused"]))
