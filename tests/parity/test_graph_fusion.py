"""graph_fusion: one compilation serves every size of query, every length of history and every thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from zoo.schema import Batch, Split

TOLERANCE = 1e-5
EXPANDED = {"wdl": "first", "din": "first", "dien": "late", "dlrm": "late"}
"""Where the user's columns are copied; "late" is what dedup leaves. A compilation takes tens of seconds."""
pytestmark = pytest.mark.timeout(900)


def of_every_size(split: Split) -> list[Batch]:
    """1 to 100 samples of one user, of users without and with 200 steps, and of all users at once."""
    rng = np.random.default_rng(5)
    users = [split.groups[user] + np.arange(12) for user in range(len(split.groups) - 1)]
    alone = [split.batch(samples[:count]) for samples in users for count in (1, 2, 12)]
    one = split.batch(users[2][:1])
    items = [split.item.take(users[2][np.arange(count) % 12]) for count in (50, 100)]
    more = [Batch(one.user, item, one.history, one.history_offsets, np.zeros(len(item), np.int64)) for item in items]
    return alone + more + [split.batch(np.sort(rng.integers(0, len(split), count))) for count in (1, 3, 33, 100)]


@pytest.fixture(scope="module")
def compiled(every_column: Callable[[str], Any]) -> Callable[[str], Any]:
    """The compiled session of a model, made once."""
    made: dict[str, Any] = {}

    def of(model: str) -> Any:
        if model not in made:
            made[model] = every_column(model).session({"graph_fusion": {}}, expand=EXPANDED[model])
        return made[model]

    return of


@pytest.mark.parametrize("model", ["dlrm", *(pytest.param(m, marks=pytest.mark.slow) for m in ("wdl", "din", "dien"))])
def test_one_compilation_serves_every_size_and_thread(
    every_column: Callable[[str], Any], compiled: Callable[[str], Any], model: str
) -> None:
    served = every_column(model)
    reference, session = served.session({}), compiled(model)
    (step,) = session.report
    assert not step["fallbacks"]
    assert step["matched"] == ["passes.compiled"] and step["build_s"] > 0.1
    batches = of_every_size(served.split)
    expected = [reference.predict(batch) for batch in batches]
    assert max(np.ptp(scores) for scores in expected) > 8 * TOLERANCE
    found: list[Any] = []
    with torch._dynamo.config.patch(error_on_recompile=True):
        mine = [session.predict(batch) for batch in batches]
        worker = threading.Thread(target=lambda: found.extend(session.predict(batch) for batch in batches))
        worker.start()
        worker.join()
    assert len(found) == len(batches)
    for here, there, wanted in zip(mine, found, expected, strict=True):
        np.testing.assert_allclose(here, wanted, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize(("side", "column", "name"), [("item", 1, "category"), ("history", 0, "hist_category")])
def test_an_id_outside_its_table_is_refused(
    every_column: Callable[[str], Any], compiled: Callable[[str], Any], side: str, column: int, name: str
) -> None:
    split = every_column("din").split
    batch = split.batch(split.groups[2] + np.arange(5))
    values = batch.history if side == "history" else batch.item.ids
    values[3, column] = 9  # category is not hashed and has 9 rows
    with pytest.raises(IndexError, match=rf"field '{name}' got the raw id 9; ids of its table lie in \[0, 9\)"):
        compiled("din").predict(batch)


def test_without_a_compiler_the_model_stays_as_it_is(
    every_column: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
    served = every_column("din")
    session = served.session({"graph_fusion": {}})
    (step,) = session.report
    assert step["matched"] == []
    (fallback,) = step["fallbacks"]
    assert fallback["path"] == "passes.compiled" and "RECARENA_NO_COMPILER is set" in fallback["reason"]
    batch = served.split.batch(np.arange(50, dtype=np.int64))
    np.testing.assert_array_equal(session.predict(batch), served.session({}).predict(batch))
