"""Fixtures that several folders share: a fabricated measurement with consistent raw columns, and a small split."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from harness.record.result import Measurement
from harness.trial import Trial
from tests.fabricated_measurement import fabricated
from zoo.schema import Rows, Split

# How long an example takes is the machine's affair: a busy one must not fail a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

LONGEST_FIRST = (
    *("test_killed_sweep", "test_ended_job", "test_main_job", "test_training_job", "test_training_gate"),
    *("test_loadgen", "test_process_cells", "test_bad_input"),
    *("test_graph_backends", "test_graph_fusion", "test_scores", "test_tracking", "test_config", "test_verify"),
    *("test_training_steps", "test_resuming", "test_overlap", "test_fused_training", "test_layer_forms"),
    *("test_comparison", "test_training_bursts", "test_sweep", "test_lbt"),
)
"""Files in which tests take long, each of them or all together."""
Fabricate = Callable[..., tuple[Trial, Measurement]]


@pytest.fixture(scope="session")
def fabricate() -> Fabricate:
    """``fabricate(**trial fields, speedup=, lbt=, shift=, hardware=, created=) -> (Trial, Measurement)``."""
    return fabricated


@pytest.fixture
def split() -> Split:
    """60 groups of 120 samples; the one user of each has 1 to 40 behaviours; both sides have bags."""
    rng, groups, each = np.random.default_rng(5), 60, 120

    def rows(count: int, dense: int, ids: int, bags: int) -> Rows:
        offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, count * bags))])
        values = rng.integers(0, 1000, offsets[-1])
        columns = rng.normal(size=(count, dense)).astype(np.float32)
        return Rows(columns, rng.integers(0, 1000, (count, ids)), values, offsets)

    history_offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 41, groups))])
    return Split(
        user=rows(groups, 3, 4, 1),
        item=rows(groups * each, 5, 6, 2),
        history=rng.integers(0, 1000, (history_offsets[-1], 2)),
        history_offsets=history_offsets,
        user_of=np.repeat(np.arange(groups), each),
        labels=rng.integers(0, 2, groups * each).astype(np.float32),
        groups=np.arange(groups + 1) * each,
    )


@pytest.fixture(scope="session")
def job_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and weights of all runs of the whole program: what one has trained, the next one finds.

    The processes that run tests side by side share it, as runs of one user share ``cache_dir``.
    """
    folder = tmp_path_factory.getbasetemp()
    cache = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "job_cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_children() -> None:
    """A suite that was started in the background inherits an ignored SIGINT and would hand it on to the programs that
    it interrupts; with a handler of its own, a child starts with the default."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: one of them at the end would run on while the other processes have nothing left."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
