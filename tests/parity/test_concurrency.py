"""One session, several threads: the scores are those of one thread, whichever thread has the kernels' pool."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", ["wdl", "din", "dien", "dlrm"])
def test_threads_predict_side_by_side(planted: Callable[[str], Any], model: str, threads: int) -> None:
    served = planted(model)
    session = served.session({"fusion": {}}, threads=threads)
    rng = np.random.default_rng(2)
    batches = [served.split.batch(np.sort(rng.integers(0, len(served.split), n))) for n in (1, 9, 40, 100)]
    alone = [session.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(session.predict, batches[k % 4]) for k in range(48)]
        for k, done in enumerate(work):
            np.testing.assert_array_equal(done.result(), alone[k % 4])
