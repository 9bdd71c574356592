"""Backends that serve an exported graph give the eager reference's scores, under any executor and to many callers.

``pytest tests/parity/test_graph_backends.py`` runs all of it, ``nox`` leaves out what is slow.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.backends.catalogue import BACKENDS, load_backend, missing_packages
from harness.backends.peers.catalogue import PEERS
from harness.backends.peers.catalogue import missing_packages as missing_peer_packages
from harness.backends.peers.plans import matched, peer_plan
from harness.backends.protocol import Session
from harness.backends.torch_backend import reference_model
from harness.trial import PEER
from optimizations.plan import first_pipeline, resolve
from tests.parity.conftest import EVERY_COLUMN, ODD_SIZES, random_split
from tests.parity.conftest import served as served_on
from tests.parity.graph_serving import loaded_by_a_process, queries, without_history
from zoo.onnx.export import export

SLOW_WDL = pytest.param("wdl", marks=pytest.mark.slow)
"""An export takes ten seconds; the whole program serves WDL by ONNX Runtime in ``tests/e2e/test_backends.py``."""
OF_EVERY_COLUMN = ["dien", SLOW_WDL]
"""Between them they have every block that is exported otherwise than it is trained."""
OF_THE_DATA = ["din", "dien", "dlrm", SLOW_WDL]
TOLERANCE = 1e-5
REAL_SAMPLES = 1200
SERVED_PEERS = [
    (name, settings)
    for name, peer in PEERS.items()
    for settings, setting in peer.settings.items()
    if peer.graph and not setting.quantizer
]
Graph = Callable[..., Path]


@pytest.fixture(params=[name for name, entry in BACKENDS.items() if entry.graph])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that serves a graph and is installed."""
    name = str(request.param)
    if missing := missing_packages(name):
        pytest.skip(f"{', '.join(missing)} not installed: pip install '{BACKENDS[name].requirement}'")
    return name


@pytest.fixture(scope="module")
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """The graph that a backend serves of a model on a data set, exported once."""
    folder = tmp_path_factory.mktemp("graphs")

    def of(backend: str, data: str, model: str, expand_first: bool = True) -> Path:
        form = BACKENDS[backend].graph
        path = folder / f"{data}-{model}-{form}-{'first' if expand_first else 'late'}.onnx"
        if not path.exists():
            served = request.getfixturevalue(data)(model)
            export(reference_model(served.context), path, rows_given=form == "rows", expand_first=expand_first)
        return path

    return of


def session_on(served: Any, backend: str, graph: Path, opts: dict[str, Any], threads: int = 1) -> Session:
    """``opts`` on ``backend``; the context holds no weights, as in a system under test."""
    context = dataclasses.replace(served.context, weights={}, graph=graph, threads=threads)
    pipeline = first_pipeline(context.config, context.schema, backend, "cpu", "serve")
    return load_backend(backend).lower(resolve(pipeline, opts, frozenset()), context)


@pytest.mark.parametrize("model", OF_EVERY_COLUMN)
def test_every_column_gives_the_scores_of_pytorch(
    every_column: Callable[[str], Any], graph: Graph, backend: str, model: str
) -> None:
    """Odd sizes; users with histories of 0, 1, 200 and some lengths between, one at a time and together."""
    served, spread = every_column(model), []
    eager, session = served.session({}), session_on(served, backend, graph(backend, "every_column", model), {})
    assert session.report == [] and session.bind is None
    for batch in queries(served.split):
        expected = eager.predict(batch)
        spread.append(np.ptp(expected))
        scores = session.predict(batch)
        assert scores.shape == (len(batch),) and scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert max(spread) > 8 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("model", ["wdl", "din", "dien", "dlrm"])
def test_what_belongs_to_the_user_may_be_computed_once(
    every_column: Callable[[str], Any], graph: Graph, backend: str, model: str
) -> None:
    served = every_column(model)
    path = graph(backend, "every_column", model, expand_first=False)
    eager, session = served.session({}), session_on(served, backend, path, {"dedup": {}})
    assert session.report[0]["matched"] == ["expand"]
    for batch in queries(served.split):
        np.testing.assert_allclose(session.predict(batch), eager.predict(batch), rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_a_side_without_numbers_gives_the_scores_of_pytorch(backend: str, tmp_path: Path) -> None:
    """Criteo's user has none, here the item: a product over no columns is no product with a number."""
    schema = dataclasses.replace(EVERY_COLUMN, dense=tuple(f for f in EVERY_COLUMN.dense if f.side == "user"))
    bare = served_on(ODD_SIZES["wdl"], schema, random_split(schema, [0, 3, 16], 12, seed=5))
    path = tmp_path / "model.onnx"
    export(reference_model(bare.context), path, rows_given=BACKENDS[backend].graph == "rows")
    eager, session = bare.session({}), session_on(bare, backend, path, {})
    for batch in queries(bare.split):
        np.testing.assert_allclose(session.predict(batch), eager.predict(batch), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("model", OF_THE_DATA)
def test_queries_of_the_data_give_the_scores_and_the_auc_of_pytorch(
    planted: Callable[[str], Any], graph: Graph, backend: str, model: str
) -> None:
    """Default sizes, by 100 samples of a user each, the history of every third user left out."""
    served = planted(model)
    split, scores, expected = served.split, [], []
    eager = served.session({})
    session = session_on(served, backend, graph(backend, "planted", model), {"executor": {}})
    assert session.report[0]["matched"] == ["runtime.executor", "runtime.threads", "runtime.workers"]
    for group in range(REAL_SAMPLES // 100):
        batch = split.batch(split.groups[group] + np.arange(100))
        batch = without_history(batch) if group % 3 == 0 else batch
        scores.append(session.predict(batch))
        expected.append(eager.predict(batch))
    labels = np.concatenate([split.labels[split.groups[g] + np.arange(100)] for g in range(len(scores))])
    got, wanted = np.concatenate(scores), np.concatenate(expected)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    assert len(got) >= 1000 and np.ptp(wanted) > 8 * TOLERANCE
    assert abs(roc_auc_score(labels, got) - roc_auc_score(labels, wanted)) < 5e-5


@pytest.mark.parametrize("executor", [{}, {"threads": 2, "workers": 2}, {"mode": "parallel"}, {"mode": "inter_op"}])
def test_an_executor_changes_no_score_and_threads_call_side_by_side(
    every_column: Callable[[str], Any], graph: Graph, backend: str, executor: dict[str, Any]
) -> None:
    if backend == "openvino" and executor.get("mode") == "inter_op":
        pytest.skip("openvino has no such mode; it is refused (test_plan)")
    served = every_column("dien")
    path = graph(backend, "every_column", "dien")
    session = session_on(served, backend, path, {"executor": executor}, threads=2)
    eager, batches = served.session({}), list(queries(served.split))[::3]
    expected = [eager.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for k, scores in enumerate(pool.map(session.predict, batches * 3)):
            np.testing.assert_allclose(scores, expected[k % len(batches)], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("peer", "settings"), SERVED_PEERS)
def test_a_peer_that_serves_the_graph_gives_the_scores_of_pytorch(
    every_column: Callable[[str], Any], graph: Graph, peer: str, settings: str
) -> None:
    """Its plan as the referee makes it, with the counts that a system under test chooses for it."""
    if missing := missing_peer_packages(peer):
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'recarena[peers]'")
    served = every_column("dien")
    backend = "onnxruntime" if PEERS[peer].graph == "raw" else "openvino"
    path = graph(backend, "every_column", "dien")
    context = dataclasses.replace(served.context, weights={}, graph=path, threads=2)
    plan = peer_plan({"name": peer, "settings": settings}, context.config, context.schema, frozenset())
    if plan.pipeline.runtime.undecided:
        counts = dataclasses.replace(plan.pipeline.runtime, workers=2, threads=1)
        plan = dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, runtime=counts))
    eager, session = served.session({}), load_backend(PEER).lower(plan, context)
    assert session.report == [matched(plan)] and session.bind is None
    batches = list(queries(served.split))[::3]
    with ThreadPoolExecutor(2) as pool:
        for batch, scores in zip(batches, pool.map(session.predict, batches), strict=True):
            np.testing.assert_allclose(scores, eager.predict(batch), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("column", "raw"), [(1, 9), (1, -2)])
def test_an_id_outside_its_table_is_refused_as_by_the_reference(
    every_column: Callable[[str], Any], graph: Graph, backend: str, column: int, raw: int
) -> None:
    """The category is not hashed and has 9 rows."""
    served = every_column("dien")
    session = session_on(served, backend, graph(backend, "every_column", "dien"), {})
    batch = served.split.batch(np.arange(20, dtype=np.int64))
    batch.item.ids[13, column] = raw
    with pytest.raises(IndexError) as told:
        session.predict(batch)
    with pytest.raises(IndexError) as expected:
        served.session({}).predict(batch)
    assert str(told.value) == str(expected.value)
    batch.item.ids[13, column] = 0
    assert session.predict(batch).shape == (20,)  # it serves on


def test_the_recurrences_are_single_operators(graph: Graph) -> None:
    if missing := missing_packages("onnxruntime"):
        pytest.skip(f"{', '.join(missing)} not installed")
    import onnx

    made = onnx.load(str(graph("onnxruntime", "every_column", "dien")), load_external_data=False).graph
    kinds = [node.op_type for node in made.node]
    assert (kinds.count("GRU"), kinds.count("Scan"), kinds.count("Loop")) == (1, 1, 0)


def test_a_process_that_serves_a_graph_loads_no_pytorch(
    every_column: Callable[[str], Any], graph: Graph, backend: str, tmp_path: Path
) -> None:
    served = every_column("dien")
    files = {"weights": str(tmp_path / "never_read.pt"), "graph": str(graph(backend, "every_column", "dien"))}
    loaded, line = loaded_by_a_process(served, backend, tmp_path, files, ("torch", "onnx", "onnxscript"))
    assert loaded == [] and line["name"] == "executor" and "predicted" in line["built"]["summary"]
    assert importlib.util.find_spec("torch") is not None  # it could have been loaded
