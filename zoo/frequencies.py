"""How often a split looks each row of each embedding table up. Numpy only: made where no framework is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.schema import BagField, Batch, HistoryField, IdField, Int64, Rows, Schema, Split, hash_rows
from zoo.table_rows import bucket_rows


class RowCounts(NamedTuple):
    """Rows of one table that were looked up at least once [R], and how often [R]: the most frequent ones first."""

    rows: Int64
    counts: Int64


Frequencies = Mapping[str, RowCounts]
"""By table."""


def row_frequencies(schema: Schema, seen: Split | Batch) -> dict[str, RowCounts]:
    """Counts of all rows that ``seen`` looks up, ties in the order of the rows.

    A user's columns count once per user row, however many candidates it has: what is looked up again within one query
    lies in the cache.
    """
    found: dict[str, RowCounts] = {}
    for table, rows in rows_looked_up(schema, seen).items():
        distinct, counts = np.unique(rows, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        found[table] = RowCounts(distinct[order], counts[order].astype(np.int64))
    return found


def rows_looked_up(schema: Schema, seen: Split | Batch) -> dict[str, Int64]:
    """Every lookup of ``seen``: rows of each table, a history's padding left out."""
    parts: dict[str, list[Int64]] = {table: [] for table in schema.tables()}
    for table, rows in _lookups(schema, seen):
        parts[table].append(rows)
    return {table: np.concatenate(rows) for table, rows in parts.items()}


def save_frequencies(path: Path, frequencies: Frequencies) -> None:
    """Write an ``.npz``: arrays ``<table>.rows`` and ``<table>.counts``."""
    arrays = {f"{table}.{name}": array for table, one in frequencies.items() for name, array in one._asdict().items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def load_frequencies(path: Path) -> dict[str, RowCounts]:
    """Inverse of ``save_frequencies``."""
    with np.load(path, allow_pickle=False) as file:
        tables = [name.removesuffix(".rows") for name in file.files if name.endswith(".rows")]
        return {table: RowCounts(file[f"{table}.rows"], file[f"{table}.counts"]) for table in tables}


def _lookups(schema: Schema, seen: Split | Batch) -> Iterator[tuple[str, Int64]]:
    for side, rows in (("user", seen.user), ("item", seen.item)):
        for field in schema.ids_of(side):  # type: ignore[arg-type]
            yield field.table, _id_rows(field, rows)
        bag_of = np.repeat(np.arange(len(rows.bag_offsets) - 1), np.diff(rows.bag_offsets)) % max(1, rows.bags_per_row)
        for bag in schema.bags_of(side):  # type: ignore[arg-type]
            yield bag.table, _table_rows(bag, rows.bag_values[bag_of == bag.column])
    for column, behaviour in enumerate(schema.history):
        yield behaviour.table, _table_rows(behaviour, seen.history[:, column])


def _id_rows(field: IdField, rows: Rows) -> Int64:
    if field.source == "bucket":
        return bucket_rows(rows.dense[:, field.column], field.rows)
    return _table_rows(field, rows.ids[:, field.column])


def _table_rows(field: IdField | BagField | HistoryField, raw: Int64) -> Int64:
    return hash_rows(raw, field.rows) if field.hashed else np.maximum(raw, 0)
