"""Real samples score alike on every backend: by request, since the data are not ours to bring.

``RECARENA_REAL_DATA=FOLDER pytest -m slow tests/parity/test_real_data.py``: in the folder, at any depth, a Criteo file
(``dac*.txt.gz``) and an event file of Amazon reviews (``*.events.tsv.gz``).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.backends.catalogue import BACKENDS, load_backend, missing_packages
from harness.backends.torch_backend import reference_model
from harness.trial import PEER
from optimizations.best_plans import best_plan
from optimizations.plan import first_pipeline, resolve
from tests.parity.conftest import DEFAULT_SIZES, served
from zoo.datasets import DATASETS, load_dataset
from zoo.onnx.export import export

FOLDER = "RECARENA_REAL_DATA"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(FOLDER not in os.environ, reason=f"{FOLDER} names no folder with real data"),
]
FILES = {"criteo": "dac*.txt.gz", "amazon": "*.events.tsv.gz"}
DATA = {"wdl": "criteo", "dlrm": "criteo", "din": "amazon", "dien": "amazon"}
SAMPLES, QUERY = 2_000, 100
TOLERANCE = 1e-5
Real = Callable[[str], Any]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """Models of default sizes, by random weights of a trained model's scale, on the test split of real data."""
    cache, made = tmp_path_factory.mktemp("real"), dict[str, Any]()

    def of(model: str) -> Any:
        if model not in made:
            name = DATA[model]
            path = min(Path(os.environ[FOLDER]).rglob(FILES[name]), default=None)
            if path is None:
                pytest.skip(f"no {FILES[name]} below {os.environ[FOLDER]}")
            data = load_dataset(name, {"path": str(path)}, cache)
            made[model] = served(DEFAULT_SIZES[model], data.schema, data.test)
        return made[model]

    return of


@pytest.mark.parametrize("plan", ["stock", "best"])
@pytest.mark.parametrize("model", ["wdl", "din", "dien", "dlrm"])
@pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - {PEER}))
def test_real_samples_have_the_scores_and_the_auc_of_pytorch(
    real: Real, tmp_path: Path, backend: str, model: str, plan: str
) -> None:
    if missing := missing_packages(backend):
        pytest.skip(f"{', '.join(missing)} not installed: pip install '{BACKENDS[backend].requirement}'")
    case = real(model)
    users = DATASETS[DATA[model]].users
    opts = () if plan == "stock" else best_plan("best", model, (), backend, users=users)
    eager, session = case.session({}), session_on(case, backend, opts, tmp_path / "model.onnx")
    batches = [case.split.batch(np.arange(first, first + QUERY)) for first in range(0, SAMPLES, QUERY)]
    wanted, got = (np.concatenate([side.predict(batch) for batch in batches]) for side in (eager, session))
    labels = case.split.labels[:SAMPLES]
    judged = ~np.isnan(labels)  # of the candidates that fill a query up nobody knows
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    assert len(got) == SAMPLES and np.ptp(wanted) > 1_000 * TOLERANCE
    of_both = [roc_auc_score(labels[judged], scores[judged]) for scores in (got, wanted)]
    assert abs(of_both[0] - of_both[1]) < 5e-5


def session_on(case: Any, backend: str, opts: tuple[str, ...], path: Path) -> Any:
    """``opts`` on ``backend``, by a graph where it serves one."""
    context, form = case.context, BACKENDS[backend].graph
    if form:
        export(reference_model(context), path, rows_given=form == "rows", expand_first="dedup" not in opts)
        context = dataclasses.replace(context, graph=path, weights={})
    first = first_pipeline(context.config, context.schema, backend, "cpu", "serve")
    return load_backend(backend).lower(resolve(first, dict.fromkeys(opts), frozenset()), context)
