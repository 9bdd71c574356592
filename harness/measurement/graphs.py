"""The exported graph of the weights, for a backend that serves one: from the cache, or from a child that makes it."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.backends.catalogue import BACKENDS
from harness.clock import now_ns
from harness.console.observer import Observer
from harness.errors import ConfigurationError
from harness.measurement.child_job import run_job
from harness.measurement.weights import file_sha256
from zoo.configs import ModelConfig
from zoo.onnx.graph_cache import graph_file, graph_folder, graph_key
from zoo.schema import Schema

MADE = "made.json"


def ensure_graph(
    backend: str,
    config: ModelConfig,
    schema: Schema,
    weights: Path,
    cache_dir: Path,
    observer: Observer,
    *,
    expand_first: bool = True,
) -> Path | None:
    """Path of the ``.onnx`` of ``weights``; None for a backend that builds from the weights themselves.

    Sides that copy the user's columns at the same place serve the same file. Raises ConfigurationError for weights that
    do not fit the model, or cannot be read, RuntimeError with the child's last words when the export fails.
    """
    form = BACKENDS[backend].graph
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
        _export(spec, folder)
    return graph_file(folder)


def export_seconds(graph: Path | None) -> float | None:
    """How long the child took that made ``graph``, whenever that was; None without one."""
    if graph is None or not (file := graph.parent / MADE).is_file():
        return None
    seconds: float = json.loads(file.read_text("utf-8"))["seconds"]
    return seconds


def _export(spec: Mapping[str, Any], folder: Path) -> None:
    """Make the graph beside ``folder``, then rename: a killed process leaves no half graph under its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        made = Path(temporary) / "graph"
        made.mkdir()
        order = {**spec, "out": str(graph_file(made).absolute())}
        started = now_ns()
        run_job("zoo.onnx.export", order, f"The export of {spec['model']['name']}", _refuse)
        (made / MADE).write_text(json.dumps({"seconds": (now_ns() - started) * 1e-9}), "utf-8")
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another run has made the same graph meanwhile
                raise


def _refuse(event: Mapping[str, Any]) -> None:
    raise ConfigurationError(str(event["refused"]))
