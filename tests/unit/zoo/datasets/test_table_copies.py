"""Tables in copies: every id falls on a copy of its row, and the large model's scores are those of the small one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.checkpoint import load_weights, save_weights
from zoo.configs import DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.datasets import fingerprint, load_dataset, trained_options
from zoo.datasets.table_copies import copied_tables, id_of_row, with_copies, without_copies
from zoo.frozen_model import frozen_model
from zoo.layers.features import to_tensors
from zoo.models import build_model
from zoo.schema import MISSING_ID, Dataset, hash_rows
from zoo.training import weights_of
from zoo.widened_weights import widen, widened_bytes

COPIES = 7
SMALL: dict[str, ModelConfig] = {
    "wdl": WdlConfig(embedding_dim=4, large_dim=8, deep_units=(16,)),
    "din": DinConfig(embedding_dim=4, top_units=(16,)),
    "dlrm": DlrmConfig(embedding_dim=16, bottom_units=(16,), top_units=(16,)),
}


def planted(model: str, **options: object) -> Dataset:
    shape = "sequence" if model == "din" else "pointwise"
    return load_dataset("planted", {"shape": shape, "size": "tiny", **options}, Path("unused"))


@given(st.integers(1, 2**31 - 1), st.integers(0, 40))
def test_an_id_is_found_for_every_row(row: int, salt: int) -> None:
    raw = id_of_row(np.array([row]), salt)
    assert raw[0] != MISSING_ID and raw[0] == id_of_row(np.array([row]), salt)[0]
    assert hash_rows(raw, 2**31)[0] == row


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(2, 5_000), st.integers(1, 50))
def test_both_sizes_of_a_table_hash_alike(raw: list[int], rows: int, copies: int) -> None:
    ids = np.array(raw)
    small, large = hash_rows(ids, rows), hash_rows(ids, 1 + copies * (rows - 1))
    assert np.array_equal(np.where(large == 0, 0, 1 + (large - 1) % (rows - 1)), small)


@pytest.mark.parametrize("model", SMALL)
def test_the_large_tables_give_the_very_scores_of_the_small_ones(model: str, tmp_path: Path) -> None:
    small, large = planted(model), planted(model, table_copies=COPIES)
    assert without_copies(large.schema, COPIES) == small.schema
    torch.manual_seed(2)
    trained = build_model(SMALL[model], small.schema)
    for name, value in trained.state_dict().items():
        if "tables" in name or "crosses" in name:
            value.normal_(std=0.1)
    save_weights(tmp_path / "small.npz", weights_of(trained))
    widen(tmp_path / "small.npz", large.schema, tmp_path / "large.npz")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["large.npz", "small.npz"]
    expected, found = (
        frozen_model(SMALL[model], data.schema, load_weights(tmp_path / f"{name}.npz")).score(
            to_tensors(data.test.batch(np.arange(2_000)))
        )
        for name, data in (("small", small), ("large", large))
    )
    assert len(torch.unique(expected)) > 500
    assert torch.equal(found, expected)
    weights = load_weights(tmp_path / "large.npz")
    assert widened_bytes(tmp_path / "small.npz", large.schema) == sum(array.nbytes for array in weights.values())


def test_nothing_but_the_ids_of_copied_tables_changes() -> None:
    small, large = planted("dlrm"), planted("dlrm", table_copies=COPIES)
    copied = set(copied_tables(small.schema))
    assert copied == set(small.schema.tables()) - {"C1", "C5", "C13", "C22"}  # those stand in crosses
    assert all(
        large.schema.tables()[name] == 1 + 999 * (COPIES if name in copied else 1) for name in large.schema.tables()
    )
    for name in ("labels", "user_of", "groups", "probability"):
        assert np.array_equal(getattr(large.test, name), getattr(small.test, name))
    for field in small.schema.ids_of("item"):
        raw, before = large.test.item.ids[:, field.column], small.test.item.ids[:, field.column]
        assert np.array_equal(hash_rows(raw, field.rows), hash_rows(before, field.rows))
        assert np.array_equal(raw == MISSING_ID, before == MISSING_ID)
        assert np.array_equal(raw, before) == (field.table not in copied)


def test_ids_spread_over_all_copies_alike() -> None:
    """Chi-squared of 1,199 degrees of freedom, mean 1,199 and deviation 49, on some 12 draws for each copy."""
    data = planted("dlrm", table_copies=1_200, test_users=160)
    field = next(field for field in data.schema.ids if field.name == "C16")
    rows = hash_rows(data.test.item.ids[:, field.column], field.rows)
    copy = (rows[rows > 0] - 1) // 999
    seen = np.bincount(copy, minlength=1_200)
    assert len(seen) == 1_200 and abs(((seen - seen.mean()) ** 2 / seen.mean()).sum() - 1_199) < 5 * 49


def test_copies_are_part_of_the_fingerprint_and_one_copy_is_none() -> None:
    options = {"shape": "pointwise", "size": "tiny"}
    prints = {copies: fingerprint("planted", {**options, "table_copies": copies}) for copies in (1, 2, 3)}
    assert len(set(prints.values())) == 3 and prints[1] == fingerprint("planted", options)
    assert fingerprint("planted", trained_options({**options, "table_copies": 3})) == prints[1]


def test_the_same_seed_gives_the_same_ids() -> None:
    one, other = (planted("dlrm", table_copies=3) for _ in range(2))
    assert np.array_equal(one.train.item.ids, other.train.item.ids)
    assert not np.array_equal(one.train.item.ids, planted("dlrm", table_copies=3, seed=9).train.item.ids)


def test_more_rows_than_the_hash_tells_apart_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dataset.table_copies: .* choose fewer copies"):
        with_copies(planted("dlrm").schema, 3_000_000)


def test_a_table_that_is_no_whole_number_of_copies_leaves_no_file(tmp_path: Path) -> None:
    schema = planted("dlrm").schema
    save_weights(tmp_path / "w.npz", {"embedding.tables.C2.weight": np.zeros((8, 2), np.float32)})
    with pytest.raises(ValueError, match="no whole number of copies"):
        widen(tmp_path / "w.npz", schema, tmp_path / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]
