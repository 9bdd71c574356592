"""The arguments of a graph that takes table rows: numpy hashes the ids, for runtimes without 64-bit products."""

from __future__ import annotations

import numpy as np

from zoo.onnx.inputs import Feed, raw_arrays
from zoo.schema import Batch, Int64, Rows, Schema, Side
from zoo.table_rows import TableLookup, bucket_rows, hashed_rows

CROSS_SHIFT = 2**31


class RowArrays:
    """``raw_arrays`` with table rows in place of raw ids, bag values and behaviours (see ``PaddedSide.rows_given``)."""

    def __init__(self, schema: Schema) -> None:
        self._user, self._item = _SideRows(schema, "user"), _SideRows(schema, "item")
        self._history = TableLookup(schema.history)
        places = {field.name: k for k, field in enumerate((*schema.ids_of("user"), *schema.ids_of("item")))}
        self._left = np.array([places[field.left] for field in schema.crosses], np.int64)
        self._right = np.array([places[field.right] for field in schema.crosses], np.int64)
        self._crossed = np.array([field.rows for field in schema.crosses], np.int64)

    def __call__(self, batch: Batch) -> Feed:
        """Raises IndexError, with field and value, for a raw id outside the table of a field that is not hashed."""
        found = raw_arrays(batch)
        user, item = self._user.ids(batch.user), self._item.ids(batch.item)
        return found | {
            "user_ids": user,
            "user_bag_values": self._user.bag_values(batch.user),
            "item_ids": np.concatenate([item, self._crosses(user, item, batch.user_of)], 1),
            "item_bag_values": self._item.bag_values(batch.item),
            "history": self._history.rows(found["history"]),
        }

    def _crosses(self, user: Int64, item: Int64, user_of: Int64) -> Int64:
        if not len(self._crossed):
            return item[:, :0]
        rows = np.concatenate([user[user_of], item], 1)
        return hashed_rows(rows[:, self._left] * CROSS_SHIFT + rows[:, self._right], self._crossed)


class _SideRows:
    """Id fields and bags of one side."""

    def __init__(self, schema: Schema, side: Side) -> None:
        fields = schema.ids_of(side)
        ids = [field for field in fields if field.source == "id"]
        buckets = [field for field in fields if field.source == "bucket"]
        self._lookup, self._bags = TableLookup(ids), TableLookup(schema.bags_of(side))
        self._id_columns = np.array([field.column for field in ids], np.int64)
        self._bucket_columns = np.array([field.column for field in buckets], np.int64)
        self._bucket_sizes = np.array([field.rows for field in buckets], np.int64)
        self._order = np.array([[*ids, *buckets].index(field) for field in fields], np.int64)

    def ids(self, rows: Rows) -> Int64:
        """Table rows [R, F] of all id fields, in their order."""
        found = self._lookup.rows(rows.ids[:, self._id_columns])
        if not len(self._bucket_columns):
            return found
        buckets = bucket_rows(rows.dense[:, self._bucket_columns], self._bucket_sizes)
        return np.concatenate([found, buckets], 1)[:, self._order]

    def bag_values(self, rows: Rows) -> Int64:
        """Table rows [total] of all bags."""
        bags = len(self._bags.fields)
        if bags == 0:
            return rows.bag_values
        lengths = np.diff(rows.bag_offsets)
        return self._bags.rows(rows.bag_values, np.repeat(np.arange(len(lengths)) % bags, lengths))
