"""Raw values to table rows in numpy, where no framework is loaded; ``zoo.layers.features`` gives the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.schema import HASH_MULTIPLIER, MISSING_ID, BagField, Float32, HistoryField, IdField, Int64

Field = IdField | BagField | HistoryField


class TableLookup:
    """Table rows of the raw ids of K fields at once: hashed, or checked and taken as they are."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self._sizes = np.array([field.rows for field in fields], np.int64)
        self._hashed = np.array([field.hashed for field in fields], np.bool_)

    def rows(self, raw: Int64, field_of: Int64 | None = None) -> Int64:
        """Rows of ``raw`` [..., K], a column per field; or [total], of the fields numbered ``field_of`` [total].

        Raises IndexError, with field and value, for a raw id outside the table of a field that is not hashed.
        """
        if not self.fields:
            return raw
        sizes, hashed = (part if field_of is None else part[field_of] for part in (self._sizes, self._hashed))
        if self._hashed.all():
            return hashed_rows(raw, sizes)
        self._check(raw, field_of, ~hashed & ((raw < MISSING_ID) | (raw >= sizes)))
        return np.where(hashed, hashed_rows(raw, sizes), np.maximum(raw, 0))

    def _check(self, raw: Int64, field_of: Int64 | None, outside: np.ndarray) -> None:
        if not outside.any():
            return
        numbers = np.broadcast_to(np.arange(len(self.fields)) if field_of is None else field_of, raw.shape)
        field, found = self.fields[int(numbers[outside][0])], int(raw[outside][0])
        raise IndexError(
            f"field {field.name!r} got the raw id {found}; ids of its table lie in [0, {field.rows}) (or are -1)"
        )


def hashed_rows(raw: Int64, sizes: Int64) -> Int64:
    """``zoo.schema.hash_rows`` for tables of several ``sizes``, which broadcast to ``raw``."""
    mixed = (raw.astype(np.uint64) * np.uint64(HASH_MULTIPLIER)) >> np.uint64(33)
    rows: Int64 = 1 + (mixed % (sizes - 1).astype(np.uint64)).astype(np.int64)
    return np.where(raw == MISSING_ID, 0, rows)


def bucket_rows(values: Float32, sizes: Int64 | int) -> Int64:
    """Logarithmic buckets of ``IdField(source="bucket")``, in double precision; ``sizes`` broadcast to ``values``."""
    wide = values.astype(np.float64)
    positive = 3 + np.floor(np.log(1 + np.where(wide > 0, wide, 0.0)) ** 2)
    row = np.minimum(np.where(wide == 0, 1, np.where(wide < 0, 2, positive)), np.asarray(sizes) - 1)
    return np.where(np.isnan(wide), 0, row).astype(np.int64)
