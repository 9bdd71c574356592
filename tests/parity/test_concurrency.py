"""One session, several threads: the scores are those of one thread, whoever has helpers."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.clock import sleep_s


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


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_helpers_end_with_the_thread_that_they_helped(planted: Callable[[str], Any]) -> None:
    served = planted("wdl")
    session = served.session({"fusion": {}}, threads=3)
    batch = served.split.batch(np.arange(100))
    with ThreadPoolExecutor(1) as pool:
        alone = len(os.listdir("/proc/self/task"))
        first = pool.submit(session.predict, batch).result()
        assert len(os.listdir("/proc/self/task")) == alone + 3  # the caller and its two helpers
    for _ in range(500):  # joined is not yet gone
        if len(os.listdir("/proc/self/task")) == alone:
            break
        sleep_s(0.01)
    assert len(os.listdir("/proc/self/task")) == alone
    np.testing.assert_array_equal(session.predict(batch), first)
