"""Large tables whose rows are those of small ones, and ids that spread over them.

A table of r rows becomes one of 1 + K (r - 1): row 0, then K copies of the others, one after the other. Both sizes hash
alike (``zoo.schema.hash_rows``): the id that falls on row R of the large table falls on row 1 + (R - 1) mod (r - 1) of
the small one, of which row R is a copy. So a model that was trained on the small tables gives the same scores, bit for
bit, from the large ones.

Each id becomes one of K that behave alike, equally often. Ids whose k-th most frequent has a share proportional to
1 / (k + q) (Zipf-Mandelbrot) then are K times as many of the same law with K q in place of q.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from zoo.datasets.portable_random import Int64, Stream, Uint64, mix64
from zoo.schema import (
    HASH_MULTIPLIER,
    MISSING_ID,
    BagField,
    HistoryField,
    IdField,
    Rows,
    Schema,
    Side,
    Split,
    hash_rows,
)

MOST_ROWS = 2**31
"""Of a hashed table: the hash has 31 bits."""
_INVERSE = np.uint64(pow(HASH_MULTIPLIER, -1, 2**64))
_LOW_BITS = 33
Field = IdField | BagField | HistoryField
AnyField = TypeVar("AnyField", IdField, BagField, HistoryField)


def copied_tables(schema: Schema) -> tuple[str, ...]:
    """Tables of which there can be copies: hashed, and in no cross, which would tell the copies apart."""
    crossed = {name for cross in schema.crosses for name in (cross.left, cross.right)}
    kept = {f.table for f in _fields(schema) if not f.hashed or f.name in crossed or getattr(f, "source", "id") != "id"}
    return tuple(table for table in schema.tables() if table not in kept)


def with_copies(schema: Schema, copies: int) -> Schema:
    """The schema with ``copies`` copies of the rows of ``copied_tables``. Raises ValueError where the hash ends."""
    return _resized(schema, lambda rows: 1 + copies * (rows - 1))


def without_copies(schema: Schema, copies: int) -> Schema:
    """Inverse of ``with_copies``: the schema that the weights were trained on."""
    return _resized(schema, lambda rows: 1 + (rows - 1) // copies)


def spread(split: Split, schema: Schema, copies: int, stream: Stream) -> Split:
    """The split with each id of a copied table replaced by one of ``copies``. ``schema``: that without copies."""
    tables = {name: number for number, name in enumerate(schema.tables()) if name in copied_tables(schema)}

    def other(field: Field, raw: Int64) -> Int64:
        if field.table not in tables:
            return raw
        return _other_ids(raw, field.rows, copies, tables[field.table], stream)

    history = [other(field, split.history[:, k]) for k, field in enumerate(schema.history)]
    return dataclasses.replace(
        split,
        user=_spread_rows(split.user, schema, "user", other),
        item=_spread_rows(split.item, schema, "item", other),
        history=np.column_stack(history) if history else split.history,
    )


def id_of_row(row: Int64, salt: int) -> Int64:
    """A raw id for each row > 0, the same one for a row at any time: ``hash_rows`` of it gives the row."""
    low = mix64(row, salt) >> np.uint64(64 - _LOW_BITS)
    raw = _with_hash(row, low)
    return np.where(raw == MISSING_ID, _with_hash(row, low ^ np.uint64(1)), raw)


def _with_hash(row: Int64, low: Uint64) -> Int64:
    """Fibonacci hashing backwards: the id whose product has ``row - 1`` for its upper 31 bits."""
    product = ((row - 1).astype(np.uint64) << np.uint64(_LOW_BITS)) | low
    return (product * _INVERSE).astype(np.int64)


def _other_ids(raw: Int64, rows: int, copies: int, salt: int, stream: Stream) -> Int64:
    row = hash_rows(raw, rows)
    copied = row + stream.below(copies, len(row)) * (rows - 1)
    return np.where(row == 0, raw, id_of_row(np.maximum(copied, 1), salt))


def _spread_rows(rows: Rows, schema: Schema, side: Side, other: Callable[[Field, Int64], Int64]) -> Rows:
    ids, values = rows.ids.copy(), rows.bag_values.copy()
    for field in schema.ids_of(side):
        if field.source == "id":
            ids[:, field.column] = other(field, rows.ids[:, field.column])
    bag_of = np.repeat(np.arange(len(rows.bag_offsets) - 1), np.diff(rows.bag_offsets)) % max(1, rows.bags_per_row)
    for field in schema.bags_of(side):
        values[bag_of == field.column] = other(field, rows.bag_values[bag_of == field.column])
    return Rows(rows.dense, ids, values, rows.bag_offsets)


def _fields(schema: Schema) -> Iterator[Field]:
    yield from (*schema.ids, *schema.bags, *schema.history)


def _resized(schema: Schema, size: Callable[[int], int]) -> Schema:
    tables = copied_tables(schema)

    def each(fields: tuple[AnyField, ...]) -> tuple[AnyField, ...]:
        return tuple(dataclasses.replace(f, rows=size(f.rows)) if f.table in tables else f for f in fields)

    wide = dataclasses.replace(schema, ids=each(schema.ids), bags=each(schema.bags), history=each(schema.history))
    most = max(wide.tables().values(), default=0)
    if most > MOST_ROWS:
        raise ValueError(
            f"dataset.table_copies: a table would have {most:,} rows, and the hash tells {MOST_ROWS:,} apart: "
            "choose fewer copies, or fewer dataset.table_rows"
        )
    return wide
