"""What ``nox -s bench -- peers`` times: the one-user form and its exports give the eager reference's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.torch_backend import reference_model
from tests.bench.peers.one_user_form import OneUserModel
from tests.bench.peers.onnx_contenders import arrays_of_rows, export, named_arrays, recurrent_operators
from zoo.schema import Batch, Split

MODELS = ["wdl", "din", "dien", "dlrm"]
TOLERANCE = 1e-5


def queries(split: Split) -> Iterator[Batch]:
    """1 to 12 candidates of every user who has a history: of 1, 200 and some lengths between."""
    for user in np.flatnonzero(np.diff(split.history_offsets)):
        for samples in (1, 2, 12):
            yield split.batch(split.groups[user] + np.arange(samples))


def holds(served: Any, predict: Callable[[Batch], Any]) -> None:
    """Every query's scores are the eager reference's, which differ among samples."""
    eager, spread = served.session({}), []
    for query in queries(served.split):
        expected = eager.predict(query)
        spread.append(np.ptp(expected))
        np.testing.assert_allclose(predict(query), expected, rtol=0, atol=TOLERANCE)
    assert max(spread) > 8 * TOLERANCE


@pytest.mark.parametrize("rows_given", [False, True])
@pytest.mark.parametrize("for_onnx", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_the_one_user_form_agrees(
    every_column: Callable[[str], Any], model: str, for_onnx: bool, rows_given: bool
) -> None:
    served = every_column(model)
    reference = reference_model(served.context)
    form = OneUserModel(reference, rows_given=rows_given, for_onnx=for_onnx).eval()

    def predict(query: Batch) -> Any:
        arrays = arrays_of_rows(reference, query) if rows_given else named_arrays(query)
        with torch.inference_mode():
            return form(*(torch.from_numpy(array) for array in arrays.values())).numpy()

    holds(served, predict)


def test_the_reference_stays_as_it_is(every_column: Callable[[str], Any]) -> None:
    reference = reference_model(every_column("dien").context)
    kinds = {name: type(child) for name, child in reference.named_modules()}
    OneUserModel(reference)
    assert {name: type(child) for name, child in reference.named_modules()} == kinds
    assert reference.expand_first


@pytest.fixture(scope="module")
def onnx_file(every_column: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The exported form of a model, made once."""
    pytest.importorskip("onnx", reason="the extra 'peers' is not installed: pip install 'recarena[peers]'")
    pytest.importorskip("onnxscript", reason="the extra 'peers' is not installed: pip install 'recarena[peers]'")
    folder = tmp_path_factory.mktemp("onnx")

    def of(model: str, rows_given: bool) -> Path:
        path = folder / f"{model}_{rows_given}.onnx"
        if not path.exists():
            served = every_column(model)
            example = served.split.batch(served.split.groups[3] + np.arange(7))
            export(reference_model(served.context), example, path, rows_given)
        return path

    return of


@pytest.mark.parametrize("model", MODELS)
def test_onnx_runtime_agrees(every_column: Callable[[str], Any], onnx_file: Callable[..., Path], model: str) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'peers' is not installed: pip install 'recarena[peers]'")
    from tests.bench.peers.onnx_contenders import onnx_runtime_session

    path = onnx_file(model, rows_given=False)
    assert recurrent_operators(path) == ("GRU, Scan" if model == "dien" else "no recurrence")
    holds(every_column(model), onnx_runtime_session(path, threads=1))


@pytest.mark.parametrize("model", MODELS)
def test_openvino_agrees_on_table_rows(
    every_column: Callable[[str], Any], onnx_file: Callable[..., Path], model: str
) -> None:
    pytest.importorskip("openvino", reason="the extra 'peers' is not installed: pip install 'recarena[peers]'")
    from tests.bench.peers.onnx_contenders import openvino_request

    served = every_column(model)
    reference = reference_model(served.context)
    answer = openvino_request(onnx_file(model, rows_given=True), threads=1)
    holds(served, lambda query: answer(arrays_of_rows(reference, query)))


@pytest.mark.parametrize("model", ["wdl", "din", "dien"])
def test_deepctr_answers_every_query(model: str, tmp_path: Path) -> None:
    """Weights of its own, so what can be held is the shape, the range, and that a score is a sample's own."""
    pytest.importorskip("deepctr_torch", reason="the extra 'peers' is not installed: pip install 'recarena[peers]'")
    from tests.bench.peers.deepctr_contender import deepctr
    from tests.bench.peers.workload import make_workload

    workload = make_workload(model, (1, 10))
    made = deepctr(workload, 1, tmp_path)
    ten, one = (made.predict(made.prepare(workload.queries[size][0])) for size in (10, 1))
    assert ten.shape == (10,) and np.all((ten > 0) & (ten < 1))
    np.testing.assert_allclose(one[0], ten[0], rtol=0, atol=TOLERANCE)
