"""Raw columns to table rows and normalised numbers: the feature-engineering part of the served graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.layers.ragged import bag_columns, pad_segments, take_segments, to_samples
from zoo.layers.tensors import Features, RawTensors, SideFeatures, SideTensors
from zoo.schema import HASH_MULTIPLIER, MISSING_ID, BagField, Batch, DenseField, IdField, Rows, Schema, Side

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


def hash_ids(raw: Tensor, rows: int) -> Tensor:
    """``zoo.schema.hash_rows`` in int64 arithmetic: the product wraps, the shift is made logical by a mask."""
    mixed = ((raw * _SIGNED_MULTIPLIER) >> 33) & _LOW_31_BITS
    return torch.where(raw == MISSING_ID, 0, 1 + mixed % (rows - 1))


def bucket_rows(x: Tensor, rows: int) -> Tensor:
    """Logarithmic buckets of ``IdField(source="bucket")``; in double precision, so that every backend cuts alike."""
    wide = x.double()
    buckets = 3 + torch.log(1 + wide.clamp(min=0)).square().floor()
    buckets = torch.where(wide == 0, 1, torch.where(wide < 0, 2, buckets)).clamp(max=rows - 1)
    return torch.where(torch.isnan(wide), 0, buckets).long()


def normalise(x: Tensor, field: DenseField) -> Tensor:
    """``(t(x) - mean) / std`` of one dense column [R]; NaN gives 0."""
    if field.transform == "log":
        x = torch.sign(x) * torch.log1p(torch.abs(x))
    scaled = (x - field.mean) / field.std
    return torch.where(torch.isnan(scaled), 0.0, scaled)


class FeatureTransform(nn.Module):
    """Field by field: hash, bucketise, normalise and fill, then concatenate.

    Raw ids of fields that are not hashed are checked once per call: IndexError names the field and the value.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.schema = schema

    def forward(self, raw: RawTensors) -> Features:
        """Engineered columns of a batch (see ``zoo.layers.tensors``)."""
        user, item = self._side(raw.user, "user"), self._side(raw.item, "item")
        history, lengths = pad_segments(self.history_rows(raw.history), raw.history_offsets)
        crosses = self._crosses(user.rows, item.rows, raw.user_of)
        return Features(user, item, history, lengths, crosses, raw.user_of)

    def history_rows(self, history: Tensor) -> Tensor:
        """Table rows [total, H] of raw behaviours [total, H]."""
        fields = self.schema.history
        columns = [_table_rows(history[:, k], field.rows, field.hashed, field.name) for k, field in enumerate(fields)]
        return torch.stack(columns, 1) if columns else history.new_zeros(len(history), 0)

    def _side(self, raw: SideTensors, side: Side) -> SideFeatures:
        dense = [normalise(raw.dense[:, k], field) for k, field in enumerate(self.schema.dense_of(side))]
        ids = [_id_rows(raw, field) for field in self.schema.ids_of(side)]
        return SideFeatures(
            torch.stack(dense, 1) if dense else raw.dense.new_zeros(len(raw.dense), 0),
            torch.stack(ids, 1) if ids else raw.ids.new_zeros(len(raw.ids), 0),
            _bag_rows(raw, self.schema.bags_of(side)),
            raw.bag_offsets,
        )

    def _crosses(self, user: Tensor, item: Tensor, user_of: Tensor | None) -> Tensor:
        columns = {field.name: user[:, k] for k, field in enumerate(self.schema.ids_of("user"))}
        columns = {name: to_samples(column, user_of) for name, column in columns.items() if self._crossed(name)}
        columns |= {field.name: item[:, k] for k, field in enumerate(self.schema.ids_of("item"))}
        crosses = [
            hash_ids(columns[field.left] * _CROSS_SHIFT + columns[field.right], field.rows)
            for field in self.schema.crosses
        ]
        return torch.stack(crosses, 1) if crosses else item.new_zeros(len(item), 0)

    def _crossed(self, name: str) -> bool:
        return any(name in (field.left, field.right) for field in self.schema.crosses)


def _id_rows(raw: SideTensors, field: IdField) -> Tensor:
    if field.source == "bucket":
        return bucket_rows(raw.dense[:, field.column], field.rows)
    return _table_rows(raw.ids[:, field.column], field.rows, field.hashed, field.name)


def _bag_rows(raw: SideTensors, fields: tuple[BagField, ...]) -> Tensor:
    if not fields:
        return raw.bag_values
    if len(fields) == 1:
        return _table_rows(raw.bag_values, fields[0].rows, fields[0].hashed, fields[0].name)
    out, columns = torch.empty_like(raw.bag_values), bag_columns(raw.bag_offsets, len(fields))
    for field in fields:
        mine = columns == field.column
        out[mine] = _table_rows(raw.bag_values[mine], field.rows, field.hashed, field.name)
    return out


def check_ids(raw: Tensor, rows: int, name: str) -> None:
    """Raises IndexError for a raw id of a field that is not hashed outside of its table of ``rows``."""
    if not raw.numel():
        return
    low, high = (int(bound) for bound in torch.aminmax(raw))
    if low < MISSING_ID or high >= rows:
        found = low if low < MISSING_ID else high
        raise IndexError(f"field {name!r} got the raw id {found}; ids of its table lie in [0, {rows}) (or are -1)")


def table_rows(raw: Tensor, rows: int, hashed: bool) -> Tensor:
    """Table rows of raw ids; those of a field that is not hashed have to lie in its table."""
    return hash_ids(raw, rows) if hashed else torch.where(raw == MISSING_ID, 0, raw)


def _table_rows(raw: Tensor, rows: int, hashed: bool, name: str) -> Tensor:
    if not hashed:
        check_ids(raw, rows, name)
    return table_rows(raw, rows, hashed)
