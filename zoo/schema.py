"""Feature schema, batches and splits: plain numpy, no framework, no clock.

A *sample* is one (user, candidate item, context) row. A *batch* holds ``users[U]`` with ragged histories,
``items[N]`` and ``user_of[N]``; a served query of sequence data has U = 1, a training batch has U = N.
All values are raw: hashing, normalising and filling are part of the graph that is measured.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Side = Literal["user", "item"]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

MISSING_ID = -1
"""Raw id of a missing value. It maps to row 0 of its table, as does every padding step."""

HASH_MULTIPLIER = 0x9E3779B97F4A7C15
"""Fibonacci hashing (Knuth, TAOCP vol. 3, section 6.4): 2**64 divided by the golden ratio, made odd."""


def hash_rows(raw: Int64, rows: int) -> Int64:
    """Map raw 64-bit ids to table rows: 0 for MISSING_ID, else 1 + ((raw * M mod 2**64) >> 33) mod (rows - 1).

    Every implementation (PyTorch, native, other backends) must give these very rows.
    """
    mixed = (raw.astype(np.uint64) * np.uint64(HASH_MULTIPLIER)) >> np.uint64(33)
    hashed = 1 + (mixed % np.uint64(rows - 1)).astype(np.int64)
    return np.where(raw == MISSING_ID, 0, hashed)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseField:
    """One raw float column of a side. Served as ``(t(x) - mean) / std`` with t the transform; NaN gives 0.

    ``log`` is sign(x) * log(1 + |x|). ``mean`` and ``std`` are those of the transformed training split.
    """

    name: str
    side: Side
    transform: Literal["none", "log"] = "none"
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdField:
    """One categorical column of a side: a raw id column, or a dense column cut into logarithmic buckets.

    ``source="id"``: column ``column`` of ``Rows.ids``. ``hashed`` maps by ``hash_rows``; otherwise the raw value
    is the row itself and must lie in [0, rows) (MISSING_ID gives 0).
    ``source="bucket"``: column ``column`` of ``Rows.dense``; NaN gives row 0, x <= 0 gives row 1 (x == 0) or
    row 2 (x < 0), else min(3 + floor(log(1 + x) ** 2), rows - 1).
    """

    name: str
    side: Side
    column: int
    table: str
    rows: int
    hashed: bool = True
    source: Literal["id", "bucket"] = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class BagField:
    """One multi-hot column of a side: bag ``column`` of each row, its embeddings summed or averaged.

    An empty bag gives the zero vector.
    """

    name: str
    side: Side
    column: int
    table: str
    rows: int
    hashed: bool = True
    pooling: Literal["sum", "mean"] = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryField:
    """One column of the user's behaviour sequence. It shares the table of the item-side id field ``target``."""

    name: str
    target: str
    table: str
    rows: int
    hashed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossField:
    """A hashed cross of two id fields for the wide part: row = hash_rows(left_row * 2**31 + right_row, rows)."""

    name: str
    left: str
    right: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What the columns of a data set mean. Orders of fields are the orders of the served tensors."""

    name: str
    dense: tuple[DenseField, ...] = ()
    ids: tuple[IdField, ...] = ()
    bags: tuple[BagField, ...] = ()
    history: tuple[HistoryField, ...] = ()
    crosses: tuple[CrossField, ...] = ()
    max_history: int = 50

    def dense_of(self, side: Side) -> tuple[DenseField, ...]:
        """Dense fields of one side, in column order."""
        return tuple(field for field in self.dense if field.side == side)

    def ids_of(self, side: Side) -> tuple[IdField, ...]:
        """Id fields of one side, in output order."""
        return tuple(field for field in self.ids if field.side == side)

    def bags_of(self, side: Side) -> tuple[BagField, ...]:
        """Bag fields of one side, in column order."""
        return tuple(field for field in self.bags if field.side == side)

    def tables(self) -> dict[str, int]:
        """Rows of every embedding table, in order of first use (ids, bags, history)."""
        found: dict[str, int] = {}
        fields: tuple[IdField | BagField | HistoryField, ...] = (*self.ids, *self.bags, *self.history)
        for field in fields:
            if found.setdefault(field.table, field.rows) != field.rows:
                raise ValueError(f"table {field.table!r} is declared with {found[field.table]} and {field.rows} rows")
        return found

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Schema:
        """Inverse of ``to_json``."""
        data: dict[str, Any] = json.loads(text)
        return Schema(
            name=data["name"],
            dense=tuple(DenseField(**field) for field in data["dense"]),
            ids=tuple(IdField(**field) for field in data["ids"]),
            bags=tuple(BagField(**field) for field in data["bags"]),
            history=tuple(HistoryField(**field) for field in data["history"]),
            crosses=tuple(CrossField(**field) for field in data["crosses"]),
            max_history=data["max_history"],
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Raw columns of R rows of one side.

    dense [R, D] float32 (NaN = missing); ids [R, F] int64 (raw, MISSING_ID = missing), F raw id columns;
    bag_values [total] int64, bag_offsets [R * B + 1] int64: bag b of row r is
    ``bag_values[bag_offsets[r * B + b] : bag_offsets[r * B + b + 1]]``.
    """

    dense: Float32
    ids: Int64
    bag_values: Int64
    bag_offsets: Int64

    def __len__(self) -> int:
        return int(self.dense.shape[0])

    @property
    def bags_per_row(self) -> int:
        """B, the number of bag columns."""
        return (len(self.bag_offsets) - 1) // max(1, len(self))

    def take(self, index: Int64) -> Rows:
        """Rows at ``index`` [K], in that order, repeats allowed."""
        width = self.bags_per_row
        bags = (index[:, None] * width + np.arange(width)).ravel()
        values, offsets = take_ragged(self.bag_values, self.bag_offsets, bags)
        return Rows(self.dense[index], self.ids[index], values, offsets)

    def span(self, start: int, stop: int) -> Rows:
        """Rows [start, stop); all but the offsets are views."""
        width = self.bags_per_row
        offsets = self.bag_offsets[start * width : stop * width + 1]
        values = self.bag_values[offsets[0] : offsets[-1]]
        return Rows(self.dense[start:stop], self.ids[start:stop], values, offsets - offsets[0])

    @staticmethod
    def empty(count: int) -> Rows:
        """``count`` rows without a column (a side that the data set does not have)."""
        return Rows(
            np.zeros((count, 0), np.float32),
            np.zeros((count, 0), np.int64),
            np.zeros(0, np.int64),
            np.zeros(1, np.int64),
        )


def take_ragged(values: npt.NDArray[Any], offsets: Int64, index: Int64) -> tuple[npt.NDArray[Any], Int64]:
    """Gather segments ``index`` of a ragged array; returns (values, offsets [K + 1])."""
    lengths = offsets[index + 1] - offsets[index]
    out = np.zeros(len(index) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    position = np.arange(out[-1]) - np.repeat(out[:-1], lengths) + np.repeat(offsets[index], lengths)
    return values[position], out


@dataclass(frozen=True, slots=True)
class Batch:
    """U users and N candidate samples: the unit that a session predicts.

    history [T, H] int64 holds the raw behaviours of all users, oldest first; user u owns
    ``history[history_offsets[u] : history_offsets[u + 1]]`` (at most ``schema.max_history`` of them).
    """

    user: Rows
    item: Rows
    history: Int64
    history_offsets: Int64
    user_of: Int64

    def __len__(self) -> int:
        return len(self.user_of)


@dataclass(frozen=True, slots=True)
class Split:
    """Samples of one split, grouped: only samples of one group are ever asked for in one query.

    labels [N] float32 are 0 or 1, or NaN for a candidate that nobody labelled (served, never scored).
    groups [G + 1] int64 are sample boundaries; for sequence data and for ``planted`` a group shares one user row.
    probability [N] float32 is the true click probability where it is known, else None.
    """

    user: Rows
    item: Rows
    history: Int64
    history_offsets: Int64
    user_of: Int64
    labels: Float32
    groups: Int64
    probability: Float32 | None = None

    def __len__(self) -> int:
        return len(self.user_of)

    def batch(self, samples: Int64) -> Batch:
        """The samples with their distinct users (U = number of distinct users), as a query carries them."""
        users, user_of = np.unique(self.user_of[samples], return_inverse=True)
        return self.gather(users, samples, user_of.astype(np.int64))

    def training_batch(self, samples: Int64) -> Batch:
        """The samples with one user row each (U = N)."""
        return self.gather(self.user_of[samples], samples, np.arange(len(samples), dtype=np.int64))

    def gather(self, users: Int64, samples: Int64, user_of: Int64) -> Batch:
        """User rows ``users`` and the samples as they are given; ``user_of`` is for the caller to say."""
        history, offsets = take_ragged(self.history, self.history_offsets, users)
        return Batch(self.user.take(users), self.item.take(samples), history, offsets, user_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Three splits under one schema. ``fingerprint`` is the SHA-256 of everything that shaped them."""

    name: str
    schema: Schema
    train: Split
    valid: Split
    test: Split
    fingerprint: str
    bayes_auc: float | None = None
