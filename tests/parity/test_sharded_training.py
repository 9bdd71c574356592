"""sharded_embedding on two processes: the parameters and the AUC of the plain training, whatever the shapes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.estimate.accuracy import AUC_MARGIN
from harness.sut.ranked_training import RankedOpener
from harness.sut.training_server import open_training, opener
from harness.training.gate import PARITY_STEPS, REORDERINGS, parity_rows, training_gate
from tests.parity.conftest import EVERY_COLUMN, ODD_SIZES
from tests.parity.sharded_case import NEEDS, Case, every_column
from tests.parity.test_training_steps import NO_GRADIENT
from zoo.checkpoint import save_weights
from zoo.configs import DlrmConfig
from zoo.datasets import load_dataset
from zoo.metrics import auc
from zoo.models import build_model
from zoo.prediction import predict
from zoo.training import load_into

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchrec") is None, reason=NEEDS)
SHARDED: dict[str, Any] = {"sharded_embedding": {}}


@pytest.fixture(scope="module")
def ranks() -> Iterator[RankedOpener]:
    """Two processes that open one training after another."""
    found = RankedOpener(2)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(ODD_SIZES))
def test_two_steps_pass_the_gate(name: str, ranks: RankedOpener, tmp_path: Path) -> None:
    """By the very functions of a trial: against the plain loop, measured by what other orders of its samples do."""
    case = Case.of(tmp_path, ODD_SIZES[name], EVERY_COLUMN, every_column())
    sharded = ranks(case.spec(SHARDED))
    assert sharded.train(PARITY_STEPS) == 40 * PARITY_STEPS
    save_weights(tmp_path / "candidate.npz", sharded.state())
    orders: list[int | None] = [None, *range(REORDERINGS)]
    files = [tmp_path / f"plain-{order}.npz" for order in orders]
    for order, path in zip(orders, files, strict=True):
        plain = open_training(case.spec({}, order))
        plain.train(PARITY_STEPS)
        save_weights(path, plain.state())
    rows = parity_rows("gate", PARITY_STEPS, tmp_path / "start.npz", files[0], tmp_path / "candidate.npz", files[1:])
    assert training_gate(rows).verdict == "pass", training_gate(rows).reasons
    moved = {row.tensor for row in rows}
    assert {path for path in sharded.state() if "tables" in path or "crosses" in path} <= moved
    assert sharded.report[0]["matched"] == ["train.ranks"] and sharded.report[0]["built"]["ranks"] == 2


@pytest.mark.parametrize("name", list(ODD_SIZES))
@pytest.mark.parametrize("size", [1, 2, 35])
def test_batches_of_any_size_move_parameters_as_the_plain_step_does(
    name: str, size: int, ranks: RankedOpener, tmp_path: Path
) -> None:
    """Of one sample the second rank has none; 108 samples in batches of 35 end with one of three."""
    case = Case.of(tmp_path, ODD_SIZES[name], EVERY_COLUMN, every_column())
    changes = {"batch_size": size, "average": 0.9, "embedding_accumulator": 1e-3}
    sharded, plain = ranks(case.spec(SHARDED, **changes)), open_training(case.spec({}, **changes))
    assert sharded.train(4) == plain.train(4)
    for theirs, mine in ((plain.state(), sharded.state()), (plain.kept(), sharded.kept())):
        assert mine.keys() == theirs.keys()
        for path, array in theirs.items():
            if path in NO_GRADIENT:
                continue
            np.testing.assert_allclose(mine[path], array, rtol=1e-4, atol=2e-5, err_msg=path)


@pytest.mark.parametrize("name", list(ODD_SIZES))
def test_a_burst_from_the_plain_loops_state_ends_where_the_plain_one_does(
    name: str, ranks: RankedOpener, tmp_path: Path
) -> None:
    case, state = Case.of(tmp_path, ODD_SIZES[name], EVERY_COLUMN, every_column()), tmp_path / "common.state"
    changes = {"batch_size": 20, "average": 0.9, "embedding_accumulator": 1e-3}
    plain = open_training(case.spec({}, **changes))
    plain.train(7)
    plain.checkpoint(state)
    plain.train(2, at=3)
    sharded = ranks(case.spec(SHARDED, **changes))
    sharded.train(3)  # wherever it stands, it begins at the state
    sharded.resume(state)
    assert sharded.train(2, at=3) == 40
    for theirs, mine in ((plain.state(), sharded.state()), (plain.kept(), sharded.kept())):
        for path, array in theirs.items():
            if path not in NO_GRADIENT:
                np.testing.assert_allclose(mine[path], array, rtol=1e-4, atol=2e-5, err_msg=path)
    with pytest.raises(ValueError, match="writes none"):
        sharded.checkpoint(state)


def test_stretches_change_no_bit_and_reading_nothing(ranks: RankedOpener, tmp_path: Path) -> None:
    """What is sent ahead within a stretch is what is sent without one."""
    case = Case.of(tmp_path, ODD_SIZES["wdl"], EVERY_COLUMN, every_column())
    whole = ranks(case.spec(SHARDED))
    assert whole.samples == 108 and whole.train(7) == 256
    states = [dict(whole.state())]
    cut = ranks(case.spec(SHARDED))
    assert cut.train(1) == cut.train(1) == 40 and cut.read(3) == 108
    assert cut.hold(3) == cut.compute() == 108 and cut.train(2) == 68
    states.append(dict(cut.state()))
    for path, array in states[0].items():
        assert np.array_equal(array, states[1][path]), path


def test_the_auc_is_that_of_the_plain_training(ranks: RankedOpener, tmp_path: Path) -> None:
    dataset = load_dataset("planted", {"shape": "pointwise", "size": "tiny"}, tmp_path)
    config = DlrmConfig(embedding_dim=4, bottom_units=(8, 4), top_units=(8,))
    case = Case.of(tmp_path, config, dataset.schema, dataset.train, start=False)
    changes = {"batch_size": 200, "embedding_lr": 0.5, "dense_lr": 0.03, "embedding_accumulator": 1e-3, "seed": 5}
    found = []
    for session in (ranks(case.spec(SHARDED, **changes)), open_training(case.spec({}, **changes))):
        session.train(20)
        model = build_model(config, dataset.schema)
        load_into(model, {path: np.array(array) for path, array in session.kept().items()})
        found.append(auc(dataset.test.labels, predict(model, dataset.test)))
    assert min(found) > 0.6 and abs(found[0] - found[1]) < AUC_MARGIN, found


def test_what_a_rank_refuses_is_said(tmp_path: Path) -> None:
    case = Case.of(tmp_path, ODD_SIZES["dlrm"], EVERY_COLUMN, every_column())
    spec = {**case.spec(SHARDED), "start": str(tmp_path / "other.npz")}
    opening = opener(spec)
    with pytest.raises(RuntimeError, match=r"rank \d failed:(.|\n)*other.npz cannot be read as weights"):
        opening(spec)


def test_a_plan_with_ranks_is_lowered_in_a_group_of_processes_only(tmp_path: Path) -> None:
    case = Case.of(tmp_path, ODD_SIZES["dlrm"], EVERY_COLUMN, every_column())
    with pytest.raises(ValueError, match="2 ranks is lowered in each of 2 processes of one group"):
        open_training(case.spec(SHARDED))
