"""sharded_embedding as data: which rows a rank has, what the plan claims, and what is refused before any work."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.edge.plugin_packages import require_packages
from harness.errors import ConfigurationError
from harness.training.mathematics import other_mathematics
from optimizations.contract import Plan, PlanError
from optimizations.plan import first_pipeline, plan_from_json, plan_to_json, resolve
from optimizations.sharded_embedding.row_plan import own_rows, rank_schema, table_rows
from zoo.configs import DlrmConfig, ModelConfig, WdlConfig
from zoo.schema import BagField, CrossField, HistoryField, IdField, Schema

SCHEMA = Schema(
    name="small",
    ids=(
        IdField(name="item", side="item", column=0, table="things", rows=10),
        IdField(name="city", side="user", column=0, table="city", rows=3),
    ),
    bags=(BagField(name="tags", side="user", column=0, table="tags", rows=1),),
    history=(HistoryField(name="seen", target="item", table="things", rows=10),),
    crosses=(CrossField(name="both", left="item", right="city", rows=7),),
)


def plan(config: ModelConfig, **opts: Any) -> Plan:
    return resolve(first_pipeline(config, SCHEMA, "torch", "cpu", "train"), opts, frozenset())


@given(rows=st.integers(0, 1000), ranks=st.integers(1, 16))
def test_every_row_is_one_ranks_and_the_rank_is_the_block(rows: int, ranks: int) -> None:
    """Row-wise sharding: row i is with rank i // ceil(rows / ranks), at place i % ceil(rows / ranks)."""
    block = -(-rows // ranks)
    found = {row: (rank, place) for rank in range(ranks) for place, row in enumerate(own_rows(rows, rank, ranks))}
    assert found == {row: (row // block, row % block) for row in range(rows)}


def test_a_ranks_schema_by_hand() -> None:
    last = rank_schema(SCHEMA, 1, 2)
    assert last.tables() == {"things": 5, "city": 1, "tags": 1}  # of tags it has none: one row that nobody asks for
    assert last.crosses[0].rows == 3
    assert [field.name for field in last.ids] == ["item", "city"]
    assert table_rows(SCHEMA) == {
        "embedding.tables.things.weight": 10,
        "embedding.tables.city.weight": 3,
        "embedding.tables.tags.weight": 1,
        "wide.tables.item.weight": 10,
        "wide.tables.city.weight": 3,
        "wide.tables.tags.weight": 1,
        "wide.crosses.both.weight": 7,
    }


def test_the_plan_says_how_many_ranks() -> None:
    found = plan(WdlConfig(), sharded_embedding={"ranks": 4})
    assert found.steps[0].claims == ("train.ranks",) and found.division == "closed"
    assert plan_from_json(plan_to_json(found)).pipeline.train.ranks == 4  # type: ignore[union-attr]
    assert plan(DlrmConfig(), sharded_embedding={}).pipeline.train.ranks == 2  # type: ignore[union-attr]
    assert plan(DlrmConfig()).pipeline.train.ranks == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("config", "opts", "said"),
    [
        (
            DlrmConfig(),
            {"sharded_embedding": {"ranks": 1}},
            "ranks must be 2 to 16, got 1; for one process",
        ),
        (DlrmConfig(), {"sharded_embedding": {}, "fusion": {}}, "say opt.fusion.embedding=false"),
        (DlrmConfig(), {"sharded_embedding": {}, "stage": {}}, "'sharded_embedding' and 'stage' exclude each other"),
        (WdlConfig(), {"sharded_embedding": {}, "micro_batch": {}}, "exclude each other"),
    ],
)
def test_what_it_does_not_go_with_is_refused(config: ModelConfig, opts: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        plan(config, **opts)


def test_it_goes_with_fusion_of_everything_but_the_tables() -> None:
    found = plan(DlrmConfig(), sharded_embedding={}, fusion={"embedding": False})
    assert found.pipeline.train is not None and found.pipeline.train.optimizer == "reference"
    assert [step.name for step in found.steps] == ["fusion", "sharded_embedding"]


def test_ranks_with_dropout_draw_their_own() -> None:
    steps = plan(DlrmConfig(), sharded_embedding={}).steps
    assert other_mathematics(steps, 0.0) == ""
    assert other_mathematics(steps, 0.3) == "'sharded_embedding' with training.dropout=0.3: each part draws its own"


def test_without_its_packages_the_command_that_installs_them_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torchrec", "fbgemm_gpu") else name)
    with pytest.raises(ConfigurationError) as caught:
        require_packages(["fusion", "sharded_embedding"])
    assert str(caught.value) == (
        "opt: 'sharded_embedding' needs torchrec, fbgemm_gpu, and they are not installed: pip install "
        "'recarena[torchrec]' && pip install --no-deps 'torchrec==1.8.0'; or leave sharded_embedding out"
    )
    require_packages(["fusion", "bf16"])
