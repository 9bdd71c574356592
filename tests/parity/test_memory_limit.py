"""Tables larger than the memory of their process: served from their file, with the scores of tables in memory."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.transport.wire import encode
from optimizations.lowering import LoweringContext
from optimizations.plan import first_pipeline, plan_to_json, resolve
from tests.parity.conftest import Served, random_rows, trained_scale
from tests.parity.memory_groups import memory_group
from zoo.checkpoint import save_weights
from zoo.configs import DlrmConfig
from zoo.frequencies import row_frequencies, save_frequencies
from zoo.schema import DenseField, IdField, Schema, Split

ROWS, SAMPLES, LIMIT_MB, HOT_MB = 1_500_000, 14_000, 48, 0.25
"""92 MiB of rows, 48 MiB of memory for all that the process allocates or reads after it has joined. The rows that are
asked for lie on pages of 55 MiB; 4,096 of them are hot."""
SCHEMA = Schema(
    name="large",
    dense=(DenseField(name="I1", side="item"),),
    ids=(IdField(name="C1", side="item", column=0, table="C1", rows=ROWS),),
)
PROCESS = Path(__file__).with_name("limited_process.py")


@pytest.fixture
def limited_group() -> Iterator[Path]:
    """The file that takes process ids into a control group of ``LIMIT_MB``."""
    with memory_group("served", LIMIT_MB) as procs:
        yield procs


def _forget(path: Path) -> None:
    """Have the kernel drop the file's pages: what another process had read would not count as memory of this one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _run(folder: Path, procs: Path, way: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROCESS), str(folder), str(procs), way]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _split(samples: int) -> Split:
    rng = np.random.default_rng(6)
    return Split(
        user=random_rows(SCHEMA, "user", 1, rng),
        item=random_rows(SCHEMA, "item", samples, rng),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(2, np.int64),
        user_of=np.zeros(samples, np.int64),
        labels=np.zeros(samples, np.float32),
        groups=np.array([0, samples]),
    )


def test_a_table_larger_than_the_memory_is_served(limited_group: Path, tmp_path: Path) -> None:
    split = _split(SAMPLES)
    table = np.arange(ROWS * 16, dtype=np.float32).reshape(ROWS, 16) / np.float32(ROWS * 16)
    few = dataclasses.replace(SCHEMA, ids=(dataclasses.replace(SCHEMA.ids[0], rows=2),))
    weights = {**trained_scale(DlrmConfig(), few, seed=1), "embedding.tables.C1.weight": table}
    save_weights(tmp_path / "weights.npz", weights)
    batch = split.batch(np.arange(SAMPLES))
    plan = resolve(
        first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve"),
        {"fusion": {}, "embedding_tier": {"hot_mb": HOT_MB}},
        frozenset(),
    )
    (tmp_path / "batch.bin").write_bytes(encode(batch))
    (tmp_path / "schema.json").write_text(SCHEMA.to_json())
    (tmp_path / "plan.json").write_text(plan_to_json(plan))
    save_frequencies(tmp_path / "frequencies.npz", row_frequencies(SCHEMA, split))

    _forget(tmp_path / "weights.npz")
    copied = _run(tmp_path, limited_group, "copy")
    assert copied.returncode == -signal.SIGKILL, copied.stderr
    _forget(tmp_path / "weights.npz")
    done = _run(tmp_path, limited_group, "tier")
    assert done.returncode == 0, done.stderr
    context = LoweringContext(
        schema=SCHEMA,
        config=DlrmConfig(),
        weights=weights,
        calibration=None,
        cache_dir=tmp_path,
        device="cpu",
        threads=1,
    )
    expected = Served(context, split).session({"fusion": {}}).predict(batch)
    assert len(np.unique(expected)) > SAMPLES / 2
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), expected)
