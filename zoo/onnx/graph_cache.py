"""Where exported graphs lie in the cache, and the key under which they do. No framework."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from zoo.configs import ModelConfig
from zoo.schema import Schema
from zoo.source_code import code_sha256

EXPORTERS = ("torch", "onnx", "onnxscript")
"""Packages that an export needs, and whose versions shape it."""
_ZOO = Path(__file__).parents[1]
_SHAPING = ("schema.py", "blueprint.py", "table_rows.py", "layers/*.py", "models/ctr_model.py", "onnx/*.py")


def graph_key(
    config: ModelConfig,
    schema: Schema,
    weights_sha256: str,
    rows_given: bool,
    root: Path = _ZOO,
    *,
    expand_first: bool = True,
) -> str:
    """Hex SHA-256 of all that shapes a graph: weights, sizes, schema, form, the exporter's code and versions."""
    parts = {
        "weights": weights_sha256,
        "model": asdict(config),
        "schema": json.loads(schema.to_json()),
        "rows_given": rows_given,
        "expand_first": expand_first,
        "code": code_sha256(root, (*_SHAPING, f"models/{config.name}.py")),
        "versions": [version(package) for package in EXPORTERS],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def graph_folder(cache_dir: Path, model: str, key: str) -> Path:
    """The folder of the graph of ``graph_key`` ``key`` in the cache."""
    return cache_dir / "graphs" / f"{model}-{key[:24]}"


def graph_file(folder: Path) -> Path:
    """The graph in its folder."""
    return folder / "model.onnx"
