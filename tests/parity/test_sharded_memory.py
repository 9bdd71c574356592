"""Tables that do not fit the memory of one process, with the sums of squares that training needs, fit that of two."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.sut.training_server import open_training
from tests.parity.conftest import random_rows, trained_scale
from tests.parity.limited_rank import STEPS
from tests.parity.memory_groups import memory_group
from tests.parity.sharded_case import NEEDS, Case
from zoo.checkpoint import save_weights
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema, Split
from zoo.split_file import write_split

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchrec") is None, reason=NEEDS)
ROWS, SAMPLES, LIMIT_MB = 1_000_000, 2_000, 110
"""61 MiB of rows and as much of sums of squares: 122 MiB, of which each of two ranks has 61."""
SCHEMA = Schema(
    name="large",
    dense=(DenseField(name="I1", side="item"),),
    ids=(
        IdField(name="C1", side="item", column=0, table="C1", rows=ROWS),
        IdField(name="C2", side="item", column=1, table="C2", rows=101),
    ),
)
TABLE = "embedding.tables.C1.weight"
PROCESS = str(Path(__file__).with_name("limited_rank.py"))


def _split() -> Split:
    rng = np.random.default_rng(6)
    return Split(
        user=random_rows(SCHEMA, "user", 1, rng),
        item=random_rows(SCHEMA, "item", SAMPLES, rng),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(2, np.int64),
        user_of=np.zeros(SAMPLES, np.int64),
        labels=rng.integers(0, 2, SAMPLES).astype(np.float32),
        groups=np.array([0, SAMPLES]),
    )


def _run(case: Case, opts: dict[str, Any], launcher: list[str], groups: list[Path]) -> subprocess.CompletedProcess[str]:
    (case.folder / "spec.json").write_text(json.dumps(case.spec(opts, batch_size=500)))
    command = [sys.executable, *launcher, PROCESS, str(case.folder), *map(str, groups)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_table_set_larger_than_the_memory_of_one_process_is_trained_by_two(tmp_path: Path) -> None:
    config = DlrmConfig(bottom_units=(16, 16), top_units=(8,))
    few = dataclasses.replace(SCHEMA, ids=(dataclasses.replace(SCHEMA.ids[0], rows=2), SCHEMA.ids[1]))
    table = np.random.default_rng(2).normal(0.0, 0.1, (ROWS, config.embedding_dim)).astype(np.float32)
    save_weights(tmp_path / "start.npz", {**trained_scale(config, few, seed=1), TABLE: table})
    write_split(tmp_path / "split.npz", _split())
    case = Case(tmp_path, config, SCHEMA, str(tmp_path / "start.npz"))
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(memory_group(f"rank{rank}", LIMIT_MB)) for rank in range(2)]
        alone = _run(case, {}, [], groups)
        assert alone.returncode == -signal.SIGKILL, alone.stderr
        both = _run(
            case,
            {"sharded_embedding": {}},
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
            groups,
        )
        assert both.returncode == 0, both.stderr
    plain = open_training(case.spec({}, batch_size=500))
    plain.train(STEPS)
    parts = [np.load(tmp_path / f"rank{rank}.npz") for rank in range(2)]
    assert len(parts[0][TABLE]) == len(parts[1][TABLE]) == ROWS // 2
    found, expected = np.concatenate([part[TABLE] for part in parts]), plain.state()[TABLE]
    assert 500 < np.count_nonzero((expected != table).any(1)) <= SAMPLES
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
