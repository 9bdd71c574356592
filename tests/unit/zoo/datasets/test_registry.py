"""The public calls: names, options and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.datasets import DATASETS, fingerprint, load_dataset


def test_the_four_data_sets_are_listed() -> None:
    assert list(DATASETS) == ["planted", "criteo", "amazon", "movielens"]
    for name, entry in DATASETS.items():
        assert entry.name == name
        assert 20 < len(entry.summary) < 110
        entry.options_type()


@pytest.mark.parametrize("call", [fingerprint, lambda name, options: load_dataset(name, options, Path("."))])
def test_an_unknown_name_lists_the_known_ones(call: Any) -> None:
    with pytest.raises(
        ValueError, match=r"dataset=criteos is unknown \(did you mean 'criteo'\?\): use one of planted, criteo"
    ):
        call("criteos", {})


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("planted", {"sise": "tiny"}, r"dataset\.sise is not an option .* \(did you mean 'size'\?\): use dataset\.shape"),
    ("planted", {"size": "huge"}, r"dataset\.size='huge' .* must be one of tiny, default, large"),
    ("planted", {"train_users": -5}, r"dataset\.train_users=-5 is out of range: it must be at least 1"),
    ("planted", {"train_users": "many"}, r"dataset\.train_users='many' .* must be a whole number or null"),
    ("planted", {"train_users": True}, r"dataset\.train_users=True .* whole number"),
    ("planted", {"seed": -1}, r"dataset\.seed=-1 is out of range"),
    ("planted", {"table_rows": 10}, r"dataset\.table_rows=10 is out of range: it must be at least 1000"),
    ("criteo", {"table_rows": 1}, r"dataset\.table_rows=1 is out of range"),
    ("criteo", {"valid": 0.0}, r"dataset\.valid=0\.0 must be a share or a number of rows above 0"),
    ("criteo", {"path": 3}, r"dataset\.path=3 .* must be text"),
    ("amazon", {"valid_share": 0.6, "test_share": 0.4}, r"dataset\.valid_share=0\.6 and .*=0\.4 are out of range"),
    ("amazon", {"protocol": "first"}, r"dataset\.protocol='first' .* one of last, rolling"),
    ("movielens", {"query_size": 1}, r"dataset\.query_size=1 is out of range: it must be at least 2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fingerprint(name, options)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    load_dataset("planted", {"size": "tiny"}, tmp_path, lambda what, fraction: told.append((what, fraction)))
    assert [what for what, _ in told] == ["generating train", "generating valid", "generating test", "generated"]
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert told[-1][1] == 1.0
    assert list(tmp_path.iterdir()) == []
