"""The exported graph of a trial: made once per weights and form, whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.catalogue import Graph, missing_packages
from harness.backends.peers.catalogue import Setting
from harness.errors import ConfigurationError
from harness.measurement import graphs
from harness.measurement.child_job import run_job
from harness.measurement.graphs import ensure_graph, ensure_quantized, export_seconds
from zoo.checkpoint import save_weights
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema

CONFIG = DlrmConfig(embedding_dim=2, bottom_units=(2,), top_units=(2,))
SCHEMA = Schema(
    name="tiny",
    dense=(DenseField(name="I1", side="item"),),
    ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),),
)


class Stages(list[str]):
    """An observer that notes the stages."""

    def stage(self, name: str, total: float | None = None, unit: str = "s") -> None:
        """A stage began."""
        self.append(name)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The orders that an exporter got, which writes an empty file."""
    orders: list[Mapping[str, Any]] = []

    def export(module: str, spec: Mapping[str, Any], title: str, follow: Any) -> None:
        orders.append(spec)
        assert module == ("zoo.onnx.export" if "schema" in spec else "a_quantizer")
        Path(spec["out"]).write_bytes(b"")

    monkeypatch.setattr(graphs, "run_job", export)
    monkeypatch.setattr("zoo.onnx.graph_cache.version", lambda package: "1")
    return orders


def weights(folder: Path, content: bytes = b"weights") -> Path:
    path = folder / "weights.npz"
    path.write_bytes(content)
    return path


def test_what_is_built_from_weights_needs_no_graph(tmp_path: Path) -> None:
    assert ensure_graph(None, CONFIG, SCHEMA, tmp_path / "nowhere", tmp_path, Stages()) is None
    assert export_seconds(None) is None


def test_how_long_an_export_took_is_known_to_later_runs(
    tmp_path: Path, exported: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter([5_000_000_000, 12_500_000_000])
    monkeypatch.setattr(graphs, "now_ns", lambda: next(stamps))
    for _ in range(2):
        made = ensure_graph("raw", CONFIG, SCHEMA, weights(tmp_path), tmp_path, Stages())
        assert export_seconds(made) == pytest.approx(7.5)
    assert len(exported) == 1 and export_seconds(tmp_path / "made_by_hand.onnx") is None


def test_a_graph_is_made_once_per_weights_form_and_schema(tmp_path: Path, exported: list[Mapping[str, Any]]) -> None:
    stages, other = Stages(), dataclasses.replace(SCHEMA, max_history=3)
    asked: list[tuple[Graph, Schema, bytes]] = [
        ("raw", SCHEMA, b"a"), ("rows", SCHEMA, b"a"), ("raw", SCHEMA, b"b"), ("raw", other, b"a")
    ]  # fmt: skip
    made = [
        ensure_graph(form, CONFIG, schema, weights(tmp_path, content), tmp_path, stages)
        for form, schema, content in (*asked, *asked)
    ]
    assert len(set(made[:4])) == 4 and made[:4] == made[4:] and all(path and path.exists() for path in made)
    late = ensure_graph("raw", CONFIG, SCHEMA, weights(tmp_path, b"a"), tmp_path, stages, expand_first=False)
    assert late not in made
    assert [order["rows_given"] for order in exported] == [False, True, False, False, False]
    assert [order["expand_first"] for order in exported] == [True, True, True, True, False]
    assert stages == ["exporting dlrm"] * 5
    assert len(list((tmp_path / "graphs").iterdir())) == 5  # and nothing temporary


def test_a_graph_is_quantized_once_per_way_to_do_it(
    tmp_path: Path, exported: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "version", lambda package: "1")
    stages, plain = Stages(), Setting(summary="")
    made = ensure_graph("raw", CONFIG, SCHEMA, weights(tmp_path), tmp_path, stages)
    assert made is not None and ensure_quantized(made, plain, stages) == made
    ways = [dataclasses.replace(plain, quantizer="a_quantizer", operators=names) for names in (("MatMul",), ("Gemm",))]
    first, second, again = (ensure_quantized(made, way, stages) for way in (*ways, ways[0]))
    assert first == again and len({made, first, second}) == 3 and first.is_file()
    assert [order["operators"] for order in exported[1:]] == [["MatMul"], ["Gemm"]]
    assert {order["graph"] for order in exported[1:]} == {str(made.resolve())}
    monkeypatch.setattr(graphs, "FOLDER", tmp_path)
    (tmp_path / "a_quantizer.py").write_text("scales = 1\n")
    assert (third := ensure_quantized(made, ways[0], stages)) not in (first, second)
    monkeypatch.setattr(graphs, "version", lambda package: "2")
    assert ensure_quantized(made, ways[0], stages) not in (first, second, third)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: str, spec: Mapping[str, Any], title: str, follow: Any) -> None:
        Path(spec["out"]).write_bytes(b"half")
        raise RuntimeError(f"{title} ended with code 1")

    monkeypatch.setattr(graphs, "run_job", fail)
    monkeypatch.setattr("zoo.onnx.graph_cache.version", lambda package: "1")
    with pytest.raises(RuntimeError, match="The export of dlrm ended"):
        ensure_graph("raw", CONFIG, SCHEMA, weights(tmp_path), tmp_path, Stages())
    assert list((tmp_path / "graphs").iterdir()) == []


def test_of_two_runs_that_export_at_a_time_both_serve_the_same(
    tmp_path: Path, exported: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run's graph appears while this one is being made."""
    export, found = graphs.run_job, []

    def overtaken(module: str, spec: Mapping[str, Any], title: str, follow: Any) -> None:
        monkeypatch.setattr(graphs, "run_job", export)
        found.append(ensure_graph("raw", CONFIG, SCHEMA, weights(tmp_path), tmp_path, Stages()))
        export(module, spec, title, follow)

    monkeypatch.setattr(graphs, "run_job", overtaken)
    mine = ensure_graph("raw", CONFIG, SCHEMA, weights(tmp_path), tmp_path, Stages())
    assert mine == found[0] and len(exported) == 2 and len(list((tmp_path / "graphs").iterdir())) == 1


@pytest.mark.skipif(bool(missing_packages("onnxruntime")), reason="the extra onnx is not installed")
def test_weights_that_do_not_fit_are_one_paragraph(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.npz", {"nothing": np.zeros(3, np.float32)})
    with pytest.raises(ConfigurationError, match=r"the weights do not fit the model .*unexpected: nothing"):
        ensure_graph("raw", CONFIG, SCHEMA, tmp_path / "weights.npz", tmp_path, Stages())
    assert list((tmp_path / "graphs").iterdir()) == []


def test_a_job_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^The job ended with code 1\..*No module named no_such_job"):
        run_job("no_such_job", {}, "The job", lambda event: None)
