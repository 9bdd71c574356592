"""Feature engineering and lookups for a whole-graph exporter: bags and histories lie padded, nothing depends on values.

The reference reads ragged columns as its training does: it selects by masks, and sizes tensors by what it finds.
Exporters turn that into loops over rows, or refuse it. The arithmetic stays the reference's, and so do the two places
where the user's columns may be copied per sample: before anything else, or where they meet the item's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.features import FeatureTransform, SideTransform, TableRows, bucket_rows, hash_ids
from zoo.layers.field_columns import TableField, table_rows
from zoo.layers.ragged import to_samples
from zoo.layers.tensors import Features, RawTensors, SideFeatures, SideTensors
from zoo.onnx.row_inputs import CROSS_SHIFT
from zoo.schema import MISSING_ID, BagField, Schema, Side


class UncheckedRows(TableRows):
    """``TableRows`` that does not look at the values. A raw id outside its table becomes the row behind the table's
    end, which a lookup refuses (a row below 0 would count from there).

    one_by_one: a column after the other, with constants for the sizes of tables, as code generators need it.
    """

    def __init__(self, fields: Sequence[TableField], one_by_one: bool) -> None:
        super().__init__(fields)
        self.one_by_one = one_by_one

    def forward(self, raw: Tensor, field_of: Tensor | None = None) -> Tensor:
        """Rows of ``raw`` [..., K], a column per field; ``field_of`` is None."""
        if not self.fields:
            return raw
        if self.one_by_one:
            return torch.stack([table_rows(raw[..., k], field) for k, field in enumerate(self.fields)], -1)
        if self.all_hashed:
            return hash_ids(raw, self.sizes)
        plain = torch.where(raw < MISSING_ID, self.sizes, raw.clamp(min=0))
        return torch.where(self.hashed, hash_ids(raw, self.sizes), plain) if self.any_hashed else plain


class PaddedSide(SideTransform):
    """``SideTransform`` with padded bags: ``bag_rows`` [R, L, B], and in place of offsets their lengths [R, B].

    rows_given: ids (buckets among them) and bag values come as table rows, in the order of their fields. one_by_one:
    see ``UncheckedRows``.
    """

    def __init__(self, schema: Schema, side: Side, rows_given: bool, one_by_one: bool) -> None:
        super().__init__(schema, side)
        self.rows_given = rows_given
        self.table_rows = UncheckedRows(self.table_rows.fields, one_by_one)
        self.bag_rows = UncheckedRows(self.bag_rows.fields, one_by_one)
        transforms = {field.transform for field in schema.dense_of(side)}
        self.takes_logarithms, self.all_logarithmic = "log" in transforms, transforms == {"log"}

    def copied(self, raw: SideTensors, user_of: Tensor | None) -> SideFeatures:
        """Engineered columns of R rows, or with ``user_of`` [N] of each row's samples."""
        dense, ids = raw.dense, raw.ids
        bounds = (dense.shape[0], self.bags)  # not -1: without a bag column there are no elements to count
        starts, ends = raw.bag_offsets[:-1].view(bounds), raw.bag_offsets[1:].view(bounds)
        if user_of is not None:
            dense, ids, starts, ends = (x.index_select(0, user_of) for x in (dense, ids, starts, ends))
        lengths = ends - starts
        bag_rows = self._bag_rows(raw.bag_values, starts, lengths) if self.bags else raw.bag_values
        return SideFeatures(self._normalised(dense), self._id_rows(dense, ids), bag_rows, lengths)

    def _normalised(self, dense: Tensor) -> Tensor:
        if self.takes_logarithms:
            logarithms = torch.sign(dense) * torch.log1p(torch.abs(dense))
            dense = logarithms if self.all_logarithmic else torch.where(self.logarithmic, logarithms, dense)
        scaled = (dense - self.mean) / self.std
        return torch.where(torch.isnan(scaled), 0.0, scaled)

    def _id_rows(self, dense: Tensor, ids: Tensor) -> Tensor:
        if self.rows_given:
            return ids[:, : len(self.order)]
        rows = self.table_rows(ids.index_select(1, self.id_columns))
        if not self.has_buckets:
            return rows
        buckets = bucket_rows(dense.index_select(1, self.bucket_columns), self.bucket_sizes)
        return torch.cat((rows, buckets), 1).index_select(1, self.order)

    def _bag_rows(self, values: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """Table rows [R, L, B] of ragged ``values``, L the longest bag."""
        longest = lengths.max().item()
        torch._check(longest >= 0)
        steps = torch.arange(longest, device=values.device).unsqueeze(1)
        # One value behind the last stands for all padding: a neighbour's may lie outside of this field's table.
        filled = torch.cat((values, values.new_full((1,), 0 if self.rows_given else MISSING_ID)))
        places = torch.where(steps < lengths.unsqueeze(1), starts.unsqueeze(1) + steps, values.shape[0])
        return filled[places] if self.rows_given else self.bag_rows(filled[places])


class PaddedFeatures(FeatureTransform):
    """``FeatureTransform`` for arguments as in ``zoo.onnx.inputs``.

    rows_given: see ``PaddedSide``; behaviours are table rows, too, and the last columns of the item's ids are the rows
    of the hashed crosses. one_by_one: see ``UncheckedRows``. expand_first: the user's columns stand once per sample in
    the result, not once per user.
    """

    def __init__(self, schema: Schema, rows_given: bool, one_by_one: bool, expand_first: bool) -> None:
        super().__init__(schema)
        self.rows_given, self.expand_first = rows_given, expand_first
        self.user = PaddedSide(schema, "user", rows_given, one_by_one)
        self.item = PaddedSide(schema, "item", rows_given, one_by_one)
        self.history_rows = UncheckedRows(schema.history, one_by_one)
        pairs = zip(self.left.tolist(), self.right.tolist(), self.cross_sizes.tolist(), strict=True)
        self.pairs: list[tuple[int, int, int]] = list(pairs) if one_by_one else []

    def forward(self, raw: RawTensors) -> Features:
        """Engineered columns; in ``raw``, ``history`` is [U, T, H] and ``history_offsets`` are lengths [U]."""
        first, late = (raw.user_of, None) if self.expand_first else (None, raw.user_of)
        user, item = self.user.copied(raw.user, first), self.item.copied(raw.item, None)
        history = to_samples(raw.history, first)
        return Features(
            user=user,
            item=item,
            history=history if self.rows_given else self.history_rows(history),
            lengths=to_samples(raw.history_offsets, first),
            crosses=self._given_crosses(raw.item.ids) if self.rows_given else self._crosses(user.rows, item.rows, late),
            user_of=late,
        )

    def _crosses(self, user: Tensor, item: Tensor, user_of: Tensor | None) -> Tensor:
        if not self.pairs:
            return super()._crosses(user, item, user_of)
        rows = torch.cat((to_samples(user, user_of), item), 1)
        crossed = [hash_ids(rows[:, left] * CROSS_SHIFT + rows[:, right], size) for left, right, size in self.pairs]
        return torch.stack(crossed, 1)

    def _given_crosses(self, ids: Tensor) -> Tensor:
        return ids[:, len(self.schema.ids_of("item")) :]


class PaddedTables(EmbeddingTables):
    """``EmbeddingTables`` on the padded bags of ``PaddedFeatures``."""

    def _side(self, features: SideFeatures, side: Side) -> Tensor:
        parts = [self.tables[f.table](features.rows[:, k]) for k, f in enumerate(self.schema.ids_of(side))]
        parts += [pooled(self.tables[field.table], features, field) for field in self.schema.bags_of(side)]
        return torch.cat(parts, 1) if parts else features.dense.new_zeros(features.dense.shape[0], 0)


class PaddedWideTables(nn.Module):
    """``WideTables`` on the padded bags of ``PaddedFeatures``: a lookup for the ids of a side, and one for all crosses.

    A raw id outside of a table that is not hashed would fall into the next one; the deep part's lookup refuses it.
    """

    def __init__(self, reference: WideTables) -> None:
        super().__init__()
        self.schema, self.dense, self.bias = reference.schema, reference.dense, reference.bias
        tables: dict[Side, list[nn.Module]] = {
            side: [reference.tables[field.name] for field in self.schema.ids_of(side)] for side in ("user", "item")
        }
        self.user, self.item = JoinedWeights(tables["user"]), JoinedWeights(tables["item"])
        self.crosses = JoinedWeights(list(reference.crosses.values()))
        self.bags = nn.ModuleDict({field.name: reference.tables[field.name] for field in self.schema.bags})

    def forward(self, features: Features) -> Tensor:
        """Logit [N]."""
        split = len(self.schema.dense_of("user"))
        user = self._side(features.user, "user", self.user, self.dense[:split])
        item = self._side(features.item, "item", self.item, self.dense[split:])
        logit = to_samples(user, features.user_of) + item + self.bias
        return logit + self.crosses(features.crosses) if self.schema.crosses else logit

    def _side(self, features: SideFeatures, side: Side, ids: JoinedWeights, dense: Tensor) -> Tensor:
        # No product over no columns: OpenVINO reads an empty vector of weights as a number.
        columns = self.schema.dense_of(side)
        logit = features.dense @ dense if columns else features.dense.new_zeros(features.dense.shape[0])
        if self.schema.ids_of(side):
            logit = logit + ids(features.rows)
        for field in self.schema.bags_of(side):
            logit = logit + pooled(self.bags[field.name], features, field).squeeze(1)
        return logit


class JoinedWeights(nn.Module):
    """Single weights of several tables, one table behind the other."""

    weight: Tensor
    first: Tensor

    def __init__(self, tables: Sequence[nn.Module]) -> None:
        super().__init__()
        weights = [table.get_parameter("weight").detach() for table in tables]
        self.register_buffer("weight", torch.cat(weights) if weights else torch.zeros(0, 1))
        sizes = torch.tensor([0, *(len(weight) for weight in weights)], device=self.weight.device)
        self.register_buffer("first", sizes.cumsum(0)[:-1])

    def forward(self, rows: Tensor) -> Tensor:
        """Sum [R] of a weight of each table, by rows [R, tables]."""
        return F.embedding(rows + self.first, self.weight).sum((1, 2))


def pooled(table: nn.Embedding, features: SideFeatures, field: BagField) -> Tensor:
    """Summed or averaged rows [R, dim] of one padded bag column."""
    rows, lengths = features.bag_rows[..., field.column], features.bag_offsets[:, field.column].unsqueeze(1)
    real = torch.arange(rows.shape[1], device=rows.device) < lengths
    total = (table(rows) * real.unsqueeze(2)).sum(1)
    return total / lengths.clamp(min=1) if field.pooling == "mean" else total
