"""What ``nox -s bench -- peers`` times beside the exported graph, whose scores ``test_graph_backends`` holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

TOLERANCE = 1e-5


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
