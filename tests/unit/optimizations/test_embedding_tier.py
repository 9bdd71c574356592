"""embedding_tier: what it claims and refuses, and which rows its memory holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizations.contract import PlanError
from optimizations.embedding_tier.hot_rows import chosen_rows, gathered, is_hot
from optimizations.plan import first_pipeline, resolve
from zoo.blueprint import HotOrder
from zoo.configs import DlrmConfig, WdlConfig
from zoo.frequencies import RowCounts
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)


def test_it_claims_the_tables_of_the_deep_part() -> None:
    pipeline = first_pipeline(WdlConfig(), SCHEMA, "torch", "cpu", "serve")
    plan = resolve(pipeline, {"fusion": {}, "embedding_tier": {"hot_mb": 3, "order": "frequency"}}, frozenset())
    found = {b.path: (b.hot_mb, b.hot_order) for b in plan.pipeline.blocks if b.role == "embedding"}
    assert found == {"embedding": (3.0, "frequency"), "wide": (0.0, "row")}
    assert plan.steps[-1].claims == ("embedding.hot_mb", "embedding.hot_order") and plan.division == "closed"


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ({"embedding_tier": {}}, r"requires fusion: write opt=\[embedding_tier,fusion\]"),
        ({"embedding_tier": {}, "fusion": {}, "bf16": {}}, "say opt.bf16.embedding=false"),
        ({"embedding_tier": {"hot_mb": 0}, "fusion": {}}, "hot_mb=0.0 must be above 0"),
        ({"embedding_tier": {"order": "table"}, "fusion": {}}, "order must be one of row, frequency, got 'table'"),
    ],
)
def test_what_it_needs_is_said(opts: dict[str, Any], said: str) -> None:
    pipeline = first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve")
    with pytest.raises(PlanError, match=said):
        resolve(pipeline, opts, frozenset())


def test_it_goes_with_bf16_elsewhere() -> None:
    pipeline = first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve")
    plan = resolve(pipeline, {"embedding_tier": {}, "fusion": {}, "bf16": {"embedding": False}}, frozenset())
    assert {b.dtype for b in plan.pipeline.blocks if b.role == "fc"} == {"bf16", "fp32"}


tables = st.dictionaries(
    st.sampled_from("ABCD"),
    st.tuples(st.lists(st.integers(1, 9), max_size=12), st.sampled_from([8, 24, 64])),
    min_size=1,
)


@given(tables, st.integers(0, 900))
def test_the_memory_holds_the_rows_that_are_asked_for_most_per_byte(
    made: dict[str, tuple[list[int], int]], hot_bytes: int
) -> None:
    counts = {name: np.array(sorted(given, reverse=True), np.int64) for name, (given, _) in made.items()}
    frequencies = {name: RowCounts(np.arange(len(c))[::-1].copy(), c) for name, c in counts.items()}
    row_bytes = {name: size for name, (_, size) in made.items()}
    chosen = chosen_rows(frequencies, row_bytes, hot_bytes)
    taken, left = [], []
    for name, rows in chosen.items():
        assert np.array_equal(rows, frequencies[name].rows[: len(rows)])  # falling frequency, none left out before
        per_byte = counts[name] / row_bytes[name]
        taken += per_byte[: len(rows)].tolist()
        left += [(value, row_bytes[name]) for value in per_byte[len(rows) :]]
    used = sum(len(rows) * row_bytes[name] for name, rows in chosen.items())
    assert used <= hot_bytes
    if left:
        best = max(value for value, _ in left)
        assert min(taken, default=best) >= best
        assert used + max(size for value, size in left if value == best) > hot_bytes


@given(st.integers(1, 90), st.integers(1, 5), st.sampled_from(["row", "frequency"]), st.booleans(), st.data())
def test_every_hot_row_is_a_copy_of_its_own_and_its_index_says_where(
    rows: int, width: int, order: HotOrder, huge_pages: bool, data: st.DataObject
) -> None:
    table = np.random.default_rng(rows).random((rows, width), np.float32)
    chosen = np.array(data.draw(st.lists(st.integers(0, rows - 1), unique=True)), np.int64)
    hot = gathered({"A": table, "B": -table}, {"A": chosen, "B": chosen[:1]}, order, huge_pages)
    for name, kept, source in (("A", chosen, table), ("B", chosen[:1], -table)):
        expected = np.sort(kept) if order == "row" else kept
        assert np.array_equal(hot[name].rows, source[expected])
        assert np.array_equal(np.flatnonzero(is_hot(hot[name], np.arange(rows))), np.sort(kept))
        assert hot[name].rows.ctypes.data % 64 == 0 and hot[name].index.ctypes.data % 64 == 0
