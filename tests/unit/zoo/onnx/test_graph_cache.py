"""The key of an exported graph changes with all that shapes it, and with nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

import zoo
from zoo.configs import DinConfig, WdlConfig
from zoo.onnx.graph_cache import graph_file, graph_folder, graph_key
from zoo.schema import Schema


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Installed versions, whatever is installed."""
    found = {"torch": "2.11", "onnx": "1.18", "onnxscript": "0.5"}
    monkeypatch.setattr("zoo.onnx.graph_cache.version", lambda package: found[package])
    return found


def test_it_changes_with_whatever_shapes_the_graph(mixed: Schema, versions: dict[str, str]) -> None:
    keys = {
        graph_key(DinConfig(), mixed, "a", False),
        graph_key(DinConfig(), mixed, "b", False),
        graph_key(DinConfig(), mixed, "a", True),
        graph_key(DinConfig(), mixed, "a", False, expand_first=False),
        graph_key(WdlConfig(), mixed, "a", False),
        graph_key(DinConfig(embedding_dim=5), mixed, "a", False),
        graph_key(DinConfig(), dataclasses.replace(mixed, max_history=3), "a", False),
    }
    versions["onnxscript"] = "0.6"
    assert len({*keys, graph_key(DinConfig(), mixed, "a", False)}) == 8


def test_it_follows_the_code_of_the_exporter_and_of_the_model(tmp_path: Path, mixed: Schema) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(Path(zoo.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    before = graph_key(DinConfig(), mixed, "a", False, root)
    assert before == graph_key(DinConfig(), mixed, "a", False)
    for file, changes in (("onnx/padded_model.py", True), ("models/din.py", True), ("models/wdl.py", False)):
        source = (root / file).read_text()
        (root / file).write_text(source + "\nMORE = 1\n")
        assert (graph_key(DinConfig(), mixed, "a", False, root) != before) is changes
        (root / file).write_text(source + "\n# a comment\n")
        assert graph_key(DinConfig(), mixed, "a", False, root) == before


def test_the_file_lies_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = graph_folder(tmp_path, "din", "0123456789abcdef0123456789abcdef")
    assert folder == tmp_path / "graphs" / "din-0123456789abcdef01234567"
    assert graph_file(folder) == folder / "model.onnx"
