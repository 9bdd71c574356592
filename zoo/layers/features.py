"""Raw columns to table rows and normalised numbers: the feature-engineering part of the served graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.layers.ragged import bag_columns, pad_segments, take_segments, to_samples
from zoo.layers.tensors import Features, RawTensors, SideFeatures, SideTensors
from zoo.schema import HASH_MULTIPLIER, MISSING_ID, BagField, Batch, HistoryField, IdField, Rows, Schema, Side

_SIGNED_MULTIPLIER = HASH_MULTIPLIER - 2**64
_LOW_31_BITS = 2**31 - 1
_CROSS_SHIFT = 2**31


def to_tensors(batch: Batch, device: str | torch.device = "cpu") -> RawTensors:
    """The batch as tensors on ``device``; on the CPU they share the memory of the arrays."""
    return RawTensors(
        user=_side_tensors(batch.user, device),
        item=_side_tensors(batch.item, device),
        history=torch.from_numpy(batch.history).to(device),
        history_offsets=torch.from_numpy(batch.history_offsets).to(device),
        user_of=torch.from_numpy(batch.user_of).to(device),
    )


def _side_tensors(rows: Rows, device: str | torch.device) -> SideTensors:
    arrays = (rows.dense, rows.ids, rows.bag_values, rows.bag_offsets)
    return SideTensors(*(torch.from_numpy(array).to(device) for array in arrays))


def expand(raw: RawTensors) -> RawTensors:
    """Copy the user side once per sample, as CTR libraries do with a request: U = N and ``user_of`` None after it."""
    if raw.user_of is None:
        return raw
    user, user_of = raw.user, raw.user_of
    width = (len(user.bag_offsets) - 1) // max(1, len(user.dense))
    bags = (user_of.unsqueeze(1) * width + torch.arange(width, device=user_of.device)).flatten()
    bag_values, bag_offsets = take_segments(user.bag_values, user.bag_offsets, bags)
    history, history_offsets = take_segments(raw.history, raw.history_offsets, user_of)
    dense, ids = user.dense.index_select(0, user_of), user.ids.index_select(0, user_of)
    return RawTensors(SideTensors(dense, ids, bag_values, bag_offsets), raw.item, history, history_offsets, None)


def hash_ids(raw: Tensor, rows: int | Tensor) -> Tensor:
    """``zoo.schema.hash_rows`` in int64 arithmetic: the product wraps, the shift is made logical by a mask.

    ``rows``: of the one table, or of the table of each id (any shape that broadcasts to that of ``raw``).
    """
    mixed = ((raw * _SIGNED_MULTIPLIER) >> 33) & _LOW_31_BITS
    return torch.where(raw == MISSING_ID, 0, 1 + mixed % (rows - 1))


def bucket_rows(x: Tensor, rows: int | Tensor) -> Tensor:
    """Logarithmic buckets of ``IdField(source="bucket")``; in double precision, so that every backend cuts alike.

    ``rows``: as in ``hash_ids``.
    """
    wide = x.double()
    buckets = 3 + torch.log(1 + wide.clamp(min=0)).square().floor()
    buckets = torch.where(wide == 0, 1, torch.where(wide < 0, 2, buckets)).clamp(max=rows - 1)
    return torch.where(torch.isnan(wide), 0, buckets).long()


def normalise(x: Tensor, mean: Tensor, std: Tensor, logarithmic: Tensor) -> Tensor:
    """``(t(x) - mean) / std`` of dense columns [R, D]; t is the logarithm where ``logarithmic`` [D]; NaN gives 0."""
    x = torch.where(logarithmic, torch.sign(x) * torch.log1p(torch.abs(x)), x)
    return torch.nan_to_num((x - mean) / std, 0.0, math.inf, -math.inf)


def outside_table(field: IdField | BagField | HistoryField, found: int) -> IndexError:
    """What is wrong with the raw id ``found`` of a field that is not hashed."""
    return IndexError(
        f"field {field.name!r} got the raw id {found}; ids of its table lie in [0, {field.rows}) (or are -1)"
    )


class TableRows(nn.Module):
    """Table rows of the raw ids of K fields, all at once: hashed, or checked and taken as they are."""

    sizes: Tensor
    hashed: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, fields: Sequence[IdField | BagField | HistoryField]) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.all_hashed = all(field.hashed for field in fields)
        self.any_hashed = any(field.hashed for field in fields)
        any_id = torch.iinfo(torch.int64)
        _constant(self, "sizes", [field.rows for field in fields], torch.int64)
        _constant(self, "hashed", [field.hashed for field in fields], torch.bool)
        _constant(self, "lowest", [any_id.min if f.hashed else MISSING_ID for f in fields], torch.int64)
        _constant(self, "highest", [any_id.max if f.hashed else f.rows - 1 for f in fields], torch.int64)

    def forward(self, raw: Tensor, field_of: Tensor | None = None) -> Tensor:
        """Rows of ``raw``: [R, K], a column per field; or [total], of the fields numbered ``field_of`` [total].

        Raises IndexError, with field and value, for a raw id outside the table of a field that is not hashed.
        """
        if not self.fields:
            return raw
        if self.all_hashed:
            return hash_ids(raw, _each(self.sizes, field_of))
        inside = raw.clamp(_each(self.lowest, field_of), _each(self.highest, field_of))
        if not torch.equal(inside, raw):
            self._refuse(raw, inside, field_of)
        plain = raw.clamp(min=0)
        if not self.any_hashed:
            return plain
        return torch.where(_each(self.hashed, field_of), hash_ids(raw, _each(self.sizes, field_of)), plain)

    def _refuse(self, raw: Tensor, inside: Tensor, field_of: Tensor | None) -> None:
        outside = inside != raw
        numbers = torch.arange(len(self.fields), device=raw.device) if field_of is None else field_of
        field, found = self.fields[int(numbers.expand_as(raw)[outside][0])], int(raw[outside][0])
        raise outside_table(field, found)


class SideTransform(nn.Module):
    """The columns of one side. Every kind of column is treated in one pass: a query is small, its operators are not."""

    id_columns: Tensor
    bucket_columns: Tensor
    bucket_sizes: Tensor
    order: Tensor
    mean: Tensor
    std: Tensor
    logarithmic: Tensor

    def __init__(self, schema: Schema, side: Side) -> None:
        super().__init__()
        dense, fields, bags = schema.dense_of(side), schema.ids_of(side), schema.bags_of(side)
        ids = [field for field in fields if field.source == "id"]
        buckets = [field for field in fields if field.source == "bucket"]
        self.table_rows, self.bag_rows = TableRows(ids), TableRows(bags)
        self.bags = len(bags)
        self.has_buckets = bool(buckets)
        _constant(self, "id_columns", [field.column for field in ids], torch.int64)
        _constant(self, "bucket_columns", [field.column for field in buckets], torch.int64)
        _constant(self, "bucket_sizes", [field.rows for field in buckets], torch.int64)
        _constant(self, "order", [[*ids, *buckets].index(field) for field in fields], torch.int64)
        _constant(self, "mean", [field.mean for field in dense], torch.float32)
        _constant(self, "std", [field.std for field in dense], torch.float32)
        _constant(self, "logarithmic", [field.transform == "log" for field in dense], torch.bool)

    def forward(self, raw: SideTensors) -> SideFeatures:
        """Engineered columns of R rows."""
        rows = self.table_rows(raw.ids.index_select(1, self.id_columns))
        if self.has_buckets:
            buckets = bucket_rows(raw.dense.index_select(1, self.bucket_columns), self.bucket_sizes)
            rows = torch.cat((rows, buckets), 1).index_select(1, self.order)
        return SideFeatures(
            normalise(raw.dense, self.mean, self.std, self.logarithmic),
            rows,
            self.bag_rows(raw.bag_values, bag_columns(raw.bag_offsets, self.bags) if self.bags > 1 else None),
            raw.bag_offsets,
        )


class FeatureTransform(nn.Module):
    """Hash, bucketise, normalise and fill the columns of both sides; pad the histories; cross."""

    left: Tensor
    right: Tensor
    cross_sizes: Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.schema = schema
        self.user, self.item = SideTransform(schema, "user"), SideTransform(schema, "item")
        self.history_rows = TableRows(schema.history)
        places = {f.name: k for k, f in enumerate((*schema.ids_of("user"), *schema.ids_of("item")))}
        _constant(self, "left", [places[field.left] for field in schema.crosses], torch.int64)
        _constant(self, "right", [places[field.right] for field in schema.crosses], torch.int64)
        _constant(self, "cross_sizes", [field.rows for field in schema.crosses], torch.int64)

    def forward(self, raw: RawTensors) -> Features:
        """Engineered columns of a batch (see ``zoo.layers.tensors``).

        Raises IndexError, with field and value, for a raw id outside the table of a field that is not hashed.
        """
        user, item = self.user(raw.user), self.item(raw.item)
        history, lengths = pad_segments(self.history_rows(raw.history), raw.history_offsets)
        return Features(user, item, history, lengths, self._crosses(user.rows, item.rows, raw.user_of), raw.user_of)

    def behaviours(self, raw: Tensor, offsets: Tensor) -> Tensor:
        """Table rows [N, T, H] of raw behaviours [total, H] whose rows begin at ``offsets`` [N + 1], padded with 0."""
        return pad_segments(self.history_rows(raw), offsets)[0]

    def _crosses(self, user: Tensor, item: Tensor, user_of: Tensor | None) -> Tensor:
        if not len(self.cross_sizes):
            return item.new_zeros(len(item), 0)
        rows = torch.cat((to_samples(user, user_of), item), 1)
        pairs = rows.index_select(1, self.left) * _CROSS_SHIFT + rows.index_select(1, self.right)
        return hash_ids(pairs, self.cross_sizes)


def _constant(module: nn.Module, name: str, values: Sequence[object], dtype: torch.dtype) -> None:
    """A tensor that moves with the module to its device and is no part of its weights."""
    module.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)


def _each(of_fields: Tensor, field_of: Tensor | None) -> Tensor:
    return of_fields if field_of is None else of_fields.index_select(0, field_of)
