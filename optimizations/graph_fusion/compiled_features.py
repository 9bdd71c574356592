"""Feature engineering as one compiled graph over flat columns; what is ragged is taken apart before and after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.layers.features import FeatureTransform, bucket_rows
from zoo.layers.field_columns import check_ids, normalised, table_rows
from zoo.layers.ragged import bag_columns, pad_segments
from zoo.layers.tensors import Features, RawTensors, SideFeatures, SideTensors
from zoo.schema import IdField, Schema, Side

FEWEST = 2
"""Rows that a compiled graph sees at least: compilers take a dimension of 0 or 1 for a fixed one."""


class FlatSide(NamedTuple):
    """Raw columns of one side; ``bag_columns`` [total]: which bag of its row a value belongs to."""

    dense: Tensor
    ids: Tensor
    bag_values: Tensor
    bag_columns: Tensor


def at_least_two(x: Tensor) -> Tensor:
    """``x`` with rows of zeros behind its own, where it has fewer than two."""
    missing = FEWEST - x.shape[0]
    return x if missing <= 0 else F.pad(x, (*(0, 0) * (x.dim() - 1), 0, missing))


def varying(x: Tensor, *dimensions: int) -> Tensor:
    """``x``, whose ``dimensions`` a compiler has to take for varying ones; it raises where it cannot."""
    for dimension in dimensions:
        torch._dynamo.mark_dynamic(x, dimension)
    return x


class CompiledFeatures(FeatureTransform):
    """``FeatureTransform``; the first call compiles."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        self._engineer: Any = torch.compile(self._columns)

    def forward(self, raw: RawTensors) -> Features:
        """Engineered columns of a batch (see ``zoo.layers.tensors``)."""
        self._check(raw)
        flat = [self._flat(raw.user, "user"), self._flat(raw.item, "item")]
        user_of = None if raw.user_of is None else varying(at_least_two(raw.user_of), 0)
        user, item, behaviours, crosses = self._engineer(*flat, varying(at_least_two(raw.history), 0), user_of)
        samples = raw.item.dense.shape[0]
        history, lengths = pad_segments(behaviours[: raw.history.shape[0]], raw.history_offsets)
        return Features(_cut(user, raw.user), _cut(item, raw.item), history, lengths, crosses[:samples], raw.user_of)

    def _flat(self, raw: SideTensors, side: Side) -> FlatSide:
        bags = len(self.schema.bags_of(side))
        columns = bag_columns(raw.bag_offsets, bags) if bags > 1 else torch.zeros_like(raw.bag_values)
        return FlatSide(*(varying(at_least_two(x), 0) for x in (raw.dense, raw.ids, raw.bag_values, columns)))

    def _columns(
        self, user: FlatSide, item: FlatSide, history: Tensor, user_of: Tensor | None
    ) -> tuple[SideFeatures, SideFeatures, Tensor, Tensor]:
        """What is compiled: elementwise on each column, then stacked."""
        users, items = self._of_side(user, "user"), self._of_side(item, "item")
        behaviours = [table_rows(history[:, k], field) for k, field in enumerate(self.schema.history)]
        crosses = self._crosses(users.rows, items.rows, user_of)
        return users, items, torch.stack(behaviours, 1) if behaviours else history, crosses

    def _of_side(self, raw: FlatSide, side: Side) -> SideFeatures:
        dense = [normalised(raw.dense[:, k], field) for k, field in enumerate(self.schema.dense_of(side))]
        ids = [_id_rows(raw, field) for field in self.schema.ids_of(side)]
        values = raw.bag_values
        for field in self.schema.bags_of(side):
            values = torch.where(raw.bag_columns == field.column, table_rows(raw.bag_values, field), values)
        return SideFeatures(
            torch.stack(dense, 1) if dense else raw.dense,
            torch.stack(ids, 1) if ids else raw.ids,
            values,
            raw.bag_columns,
        )

    def _check(self, raw: RawTensors) -> None:
        """IndexError for a raw id of a field that is not hashed outside of its table, as the reference raises it."""
        for k, past in enumerate(self.schema.history):
            check_ids(raw.history[:, k], past)
        for part, ids, bags in (
            (raw.user, self.schema.ids_of("user"), self.schema.bags_of("user")),
            (raw.item, self.schema.ids_of("item"), self.schema.bags_of("item")),
        ):
            for field in ids:
                if field.source == "id":
                    check_ids(part.ids[:, field.column], field)
            for bag in bags:
                if not bag.hashed:
                    mine = bag_columns(part.bag_offsets, len(bags)) == bag.column
                    check_ids(part.bag_values[mine], bag)


def _id_rows(raw: FlatSide, field: IdField) -> Tensor:
    if field.source == "bucket":
        return bucket_rows(raw.dense[:, field.column], field.rows)
    return table_rows(raw.ids[:, field.column], field)


def _cut(found: SideFeatures, raw: SideTensors) -> SideFeatures:
    """Without the rows that were put behind, and with the offsets of the bags in place of columns."""
    rows, values = raw.dense.shape[0], raw.bag_values.shape[0]
    return SideFeatures(found.dense[:rows], found.rows[:rows], found.bag_rows[:values], raw.bag_offsets)
