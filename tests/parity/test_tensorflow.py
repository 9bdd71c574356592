"""The models in TensorFlow give the eager reference's scores, under any plan and to many callers.

``pip install 'recarena[tf]' && pytest tests/parity/test_tensorflow.py``; without TensorFlow they are skipped.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.backends.catalogue import load_backend
from harness.backends.protocol import Session
from optimizations.plan import first_pipeline, resolve
from tests.parity.graph_serving import loaded_by_a_process, queries
from zoo.checkpoint import save_weights
from zoo.schema import Batch, Split

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow not installed: pip install 'recarena[tf]'"
)
MODELS = ["wdl", "din", "dien", "dlrm"]
TOLERANCE = 1e-5
REAL_SAMPLES = 1200
PLANS: list[Any] = [
    {"executor": {}},
    {"executor": {"threads": 2, "workers": 2}},
    {"executor": {"mode": "parallel"}},
    {"executor": {"mode": "inter_op"}},
    {"fusion": {}, "executor": {}},
    {"dedup": {}},
    pytest.param({"fusion": {"xla": True}, "executor": {}}, marks=pytest.mark.slow),
    pytest.param({"fusion": {"xla": True}, "dedup": {}, "executor": {}}, marks=pytest.mark.slow),
]
"""XLA compiles for every size that it may meet, half a second and more for each."""


def session_on(served: Any, opts: dict[str, Any], threads: int = 1, **changes: Any) -> Session:
    """``opts`` on TensorFlow."""
    context = dataclasses.replace(served.context, threads=threads, **changes)
    pipeline = first_pipeline(context.config, context.schema, "tensorflow", "cpu", "serve")
    return load_backend("tensorflow").lower(resolve(pipeline, opts, frozenset()), context)


def real_queries(split: Split) -> Iterator[Batch]:
    """By 100 samples of a user each, the history of every third user left out."""
    for group in range(REAL_SAMPLES // 100):
        batch = split.batch(split.groups[group] + np.arange(100))
        offsets = np.zeros_like(batch.history_offsets)
        yield batch if group % 3 else dataclasses.replace(batch, history=batch.history[:0], history_offsets=offsets)


@pytest.mark.parametrize("model", MODELS)
def test_every_column_gives_the_scores_of_pytorch(every_column: Callable[[str], Any], model: str) -> None:
    """Odd sizes; users with histories of 0, 1, 200 and some lengths between, one at a time and together."""
    served, spread = every_column(model), []
    eager, session = served.session({}), session_on(served, {})
    assert session.report == [] and session.bind is None
    for batch in queries(served.split):
        expected = eager.predict(batch)
        spread.append(np.ptp(expected))
        scores = session.predict(batch)
        assert scores.shape == (len(batch),) and scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert max(spread) > 8 * TOLERANCE


@pytest.mark.parametrize("model", MODELS)
def test_queries_of_the_data_give_the_scores_and_the_auc_of_pytorch(planted: Callable[[str], Any], model: str) -> None:
    served = planted(model)
    session, eager = session_on(served, {"executor": {}}), served.session({})
    assert session.report[0]["matched"] == ["runtime.executor", "runtime.threads", "runtime.workers"]
    scores, expected = ([s.predict(b) for b in real_queries(served.split)] for s in (session, eager))
    got, wanted = np.concatenate(scores), np.concatenate(expected)
    groups = served.split.groups[: len(scores)]
    labels = np.concatenate([served.split.labels[first + np.arange(100)] for first in groups])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    assert len(got) >= 1000 and np.ptp(wanted) > 8 * TOLERANCE
    assert abs(roc_auc_score(labels, got) - roc_auc_score(labels, wanted)) < 5e-5


@pytest.mark.parametrize("model", ["wdl", "din", "dlrm"])
def test_what_belongs_to_the_user_may_be_computed_once(every_column: Callable[[str], Any], model: str) -> None:
    served = every_column(model)
    session, eager = session_on(served, {"dedup": {}, "fusion": {}}), served.session({})
    assert session.report[0]["matched"] == ["expand"]
    for batch in queries(served.split):
        np.testing.assert_allclose(session.predict(batch), eager.predict(batch), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("opts", PLANS, ids=str)
def test_no_plan_changes_a_score_and_threads_call_side_by_side(
    every_column: Callable[[str], Any], opts: dict[str, Any]
) -> None:
    served = every_column("dien")
    served = dataclasses.replace(served, context=dataclasses.replace(served.context, calibration=None))
    session, eager = session_on(served, opts, threads=2), served.session({})
    assert all(line["matched"] and not line["fallbacks"] for line in session.report)
    batches = list(queries(served.split))[::3]
    expected = [eager.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for k, scores in enumerate(pool.map(session.predict, batches * 3)):
            np.testing.assert_allclose(scores, expected[k % len(batches)], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("column", "raw"), [(1, 9), (1, -2)])
def test_an_id_outside_its_table_is_refused_as_by_the_reference(
    every_column: Callable[[str], Any], column: int, raw: int
) -> None:
    """The category is not hashed and has 9 rows."""
    served = every_column("dien")
    session = session_on(served, {})
    batch = served.split.batch(np.arange(20, dtype=np.int64))
    batch.item.ids[13, column] = raw
    with pytest.raises(IndexError) as told:
        session.predict(batch)
    with pytest.raises(IndexError) as expected:
        served.session({}).predict(batch)
    assert str(told.value) == str(expected.value)
    batch.item.ids[13, column] = 0
    assert session.predict(batch).shape == (20,)  # it serves on


def test_weights_that_do_not_fit_are_named(every_column: Callable[[str], Any]) -> None:
    served = every_column("din")
    given = dict(served.context.weights)
    given["nothing"], given["out.linear.bias"] = np.zeros(3, np.float32), np.zeros(2, np.float32)
    del given["top.0.activation.alpha"]
    with pytest.raises(
        ValueError, match=r"missing: top\.0\.activation\.alpha; unexpected: nothing; wrong shape: out\."
    ):
        session_on(served, {}, weights=given)


def test_the_tables_are_read_where_they_lie(every_column: Callable[[str], Any], tmp_path: Path) -> None:
    """A mapped file can be changed under a session only if the session reads the file's own pages."""
    from zoo.array_file import map_arrays

    served = every_column("din")
    save_weights(tmp_path / "weights.npz", served.context.weights)
    mapped = map_arrays(tmp_path / "weights.npz")
    session = session_on(served, {}, weights=mapped)
    batch = served.split.batch(np.arange(12))
    before = session.predict(batch)
    name = "embedding.tables.item.weight"
    content = (tmp_path / "weights.npz").read_bytes()
    start = content.index(mapped[name].tobytes())
    with (tmp_path / "weights.npz").open("r+b") as file:
        file.seek(start)
        file.write((2 * served.context.weights[name]).tobytes())
    assert np.abs(session.predict(batch) - before).max() > 1e-4


@pytest.mark.parametrize("model", ["dien", "dlrm"])
def test_mixed_precision_rounds_the_products_and_says_which(every_column: Callable[[str], Any], model: str) -> None:
    served = every_column(model)
    try:
        session = session_on(served, {"bf16": {}, "executor": {}})
    except ValueError as refused:
        assert "'bf16' matched no block" in str(refused) and "left its products in fp32" in str(refused)
        pytest.skip("oneDNN does not multiply bfloat16 on this processor")
    line = session.report[0]
    assert {"dien": {"gru", "attention", "augru"}, "dlrm": {"interaction", "bottom.0"}}[model] <= set(line["matched"])
    eager = served.session({})
    far = [np.abs(session.predict(batch) - eager.predict(batch)).max() for batch in queries(served.split)]
    assert TOLERANCE < max(far) < 4e-3


def test_a_process_that_serves_by_tensorflow_loads_no_pytorch(
    every_column: Callable[[str], Any], tmp_path: Path
) -> None:
    served = every_column("dien")
    save_weights(tmp_path / "weights.npz", served.context.weights)
    files = {"weights": str(tmp_path / "weights.npz"), "graph": None}
    loaded, line = loaded_by_a_process(served, "tensorflow", tmp_path, files, ("torch", "onnx", "onnxruntime"))
    assert loaded == [] and line["name"] == "executor" and "predicted" in line["built"]["summary"]
