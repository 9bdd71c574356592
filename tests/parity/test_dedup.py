"""dedup: whatever users a query has, its scores are those of the expanded user side; the split layers one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimizations.fusion.torch_dense import FusedFullyConnected, FusedSplit
from optimizations.split_layers import SplitAttention, SplitFullyConnected
from tests.parity.tolerances import score_tolerance
from zoo.blueprint import Block
from zoo.layers.attention import LocalActivationUnit, SoftmaxAttention
from zoo.layers.mlp import ACTIVATIONS, FullyConnected
from zoo.layers.tensors import Columns
from zoo.schema import Batch, Split

MODELS = ["wdl", "din", "dien", "dlrm"]
PLANS = ["dedup", "fusion,dedup", "fusion,bf16,dedup"]
SPLIT = {"wdl": ["deep.0"], "dlrm": ["bottom.0"], "din": ["attention", "top.0"], "dien": ["attention", "top.0"]}
EMPTY, LONGEST = 0, 2  # users of the fixture ``every_column``


def queries(split: Split) -> Iterator[Batch]:
    """N = 1; one user, also one without a history; two users; U = N; a mixture in which the users alternate."""
    groups = split.groups
    for user in (EMPTY, LONGEST):
        yield split.batch(groups[user] + np.arange(1))
        yield split.batch(groups[user] + np.arange(12))
    yield split.batch(groups[EMPTY] + np.arange(13))
    yield split.batch(groups[:-1] + 3)
    yield split.training_batch(groups[LONGEST] + np.arange(9))
    yield split.batch(np.arange(len(split))[:: len(split) // 40][::-1].copy())


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("model", MODELS)
def test_scores_agree_for_any_users(every_column: Callable[[str], Any], model: str, plan: str) -> None:
    served, names = every_column(model), plan.split(",")
    reference, session = served.session({}), served.session(dict.fromkeys(names))
    shapes = set()
    for batch in queries(served.split):
        tolerance = score_tolerance(names)
        np.testing.assert_allclose(session.predict(batch), reference.predict(batch), rtol=0, atol=tolerance)
        shapes.add((len(batch.user.dense), len(batch)))
    assert {(1, 1), (1, 12), (2, 13), (10, 10), (9, 9)} < shapes


@pytest.mark.parametrize("plan", [*PLANS, "dedup,tf32"])
@pytest.mark.parametrize("model", MODELS)
def test_the_report_names_what_was_split(every_column: Callable[[str], Any], model: str, plan: str) -> None:
    steps = {step["name"]: step for step in every_column(model).session(dict.fromkeys(plan.split(","))).report}
    assert sorted(steps["dedup"]["matched"]) == sorted(["expand", *SPLIT[model]])
    assert all(not step["fallbacks"] for step in steps.values())


def test_layers_stay_whole_by_option(every_column: Callable[[str], Any]) -> None:
    served = every_column("dien")
    session = served.session({"fusion": {}, "dedup": {"split": False}})
    assert session.report[0]["matched"] == ["expand"]
    for batch in queries(served.split):
        np.testing.assert_allclose(session.predict(batch), served.session({}).predict(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_the_users_of_other_queries_change_nothing(every_column: Callable[[str], Any], model: str) -> None:
    """Queries that were merged score as they do alone."""
    served = every_column(model)
    session = served.session({"fusion": {}, "dedup": {}})
    groups = [served.split.groups[user] + np.arange(5) for user in (5, LONGEST, EMPTY)]
    alone = np.concatenate([session.predict(served.split.batch(index)) for index in groups])
    merged = session.predict(served.split.batch(np.concatenate(groups)))
    np.testing.assert_allclose(merged, alone, rtol=0, atol=1e-6)


def test_an_implementation_that_cannot_split_keeps_its_layers_whole(
    every_column: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.parity.test_third_party import install

    install(tmp_path, monkeypatch)
    served = every_column("din")
    session = served.session({"doubled": {}, "dedup": {}})
    steps = {step["name"]: step for step in session.report}
    reason = "split=False: no doubled implementation of fc.split in fp32"
    assert steps["dedup"]["matched"] == ["expand", "attention"]
    assert steps["dedup"]["fallbacks"] == [{"path": "top.0", "reason": reason}]
    assert steps["doubled"]["matched"] == ["top.0"]
    for batch in queries(served.split):
        np.testing.assert_allclose(session.predict(batch), served.session({}).predict(batch), rtol=0, atol=1e-5)


def block(inputs: int, *user_columns: tuple[int, int]) -> Block:
    return Block(
        path="x", role="fc", kind="", shape=(("inputs", inputs),), side="mixed", user_columns=user_columns, split=True
    )


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.3, 1.5)
        elif name.endswith(("running_mean", "alpha", "bias")):
            value.normal_(std=0.3)
    return module.eval().requires_grad_(False)


def indices(users: int) -> list[torch.Tensor | None]:
    """None where users are samples, else shuffled with repetitions."""
    return [torch.randint(users, (rows,)) for rows in (1, 7, 100)] + [None]


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize(
    ("widths", "outputs"), [((1, 1, 1), 1), ((3, 5, 2), 17), ((64, 20, 13), 65), ((7, 300, 8), 130)]
)
@pytest.mark.parametrize("users", [1, 2, 9, 100])
def test_split_layers_are_the_whole_layer(kind: str, widths: tuple[int, int, int], outputs: int, users: int) -> None:
    """The user's columns lie on both sides of the samples'; all three precisions of the kernel."""
    torch.manual_seed(3)
    a, b, c = widths
    layer = randomised(FullyConnected(a + b + c, outputs, kind))
    split = SplitFullyConnected(layer, block(a + b + c, (0, a), (a + b, a + b + c)))
    fused = {p: (FusedFullyConnected(layer, p, 2), FusedSplit(split, p, 2)) for p in ("fp32", "bf16", "tf32")}
    for user_of in indices(users):
        rows = users if user_of is None else len(user_of)
        parts = (torch.randn(users, a), torch.randn(rows, b), torch.randn(users, c))
        columns = Columns(parts, (True, False, True), user_of)
        torch.testing.assert_close(split(columns), layer(columns.joined()), rtol=1e-5, atol=2e-5)
        for whole, taken_apart in fused.values():
            torch.testing.assert_close(taken_apart(columns), whole(columns.joined()), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    "unit", [LocalActivationUnit(6, (9, 4)), SoftmaxAttention(5, 6, (9, 4)), LocalActivationUnit(1, (1,))]
)
@pytest.mark.parametrize("lengths", [[0], [4], [4, 0, 2, 1]])
def test_split_attention_is_the_whole_unit(unit: LocalActivationUnit | SoftmaxAttention, lengths: list[int]) -> None:
    unit = randomised(unit)
    split, users = SplitAttention(unit), len(lengths)
    width = unit.units[0].linear.in_features // 4
    query_width = unit.query.linear.in_features if isinstance(unit, SoftmaxAttention) else width
    keys = torch.randn(users, max(1, *lengths, 0), width)
    for user_of in indices(users):
        query = torch.randn(users if user_of is None else len(user_of), query_width)
        expected = unit(query, keys, torch.tensor(lengths), user_of)
        torch.testing.assert_close(split(query, keys, torch.tensor(lengths), user_of), expected, rtol=1e-5, atol=1e-5)
