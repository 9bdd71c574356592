"""The reference model on one user's query, written so that a whole-graph exporter can follow it.

The reference reads ragged columns as its training does: it selects by masks, and sizes tensors by what it finds.
Exporters turn that into loops over rows, or refuse it. Here bags and the history lie padded instead, and the AUGRU is
one scan over the steps. Weights, arithmetic and the copy of the user's columns per candidate stay the reference's.
What is left out: the check that raw ids of tables that are not hashed lie in their table.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from zoo.layers.augru import Augru, Gru
from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.features import FeatureTransform, bucket_rows
from zoo.layers.field_columns import TableField, normalised, table_rows
from zoo.layers.ragged import step_mask
from zoo.layers.tensors import Features, RawTensors, SideFeatures, SideTensors
from zoo.models.ctr_model import CtrModel
from zoo.schema import MISSING_ID, BagField, IdField, Schema, Side

INPUTS = (
    *(f"{side}_{column}" for side in ("user", "item") for column in ("dense", "ids", "bag_values", "bag_offsets")),
    *("history", "history_offsets", "user_of"),
)
"""Names of the arguments of ``OneUserModel.forward``, in order."""
GRU_OPSET = 14
"""The version of ONNX's GRU (its last change of form)."""
PER_USER = frozenset({"user_dense", "user_ids", "user_bag_offsets", "history_offsets"})
"""Arguments whose first dimension is the same in every query of one user."""


class OneUserModel(nn.Module):
    """Scores [N] of one user's N candidates from the arrays of ``RawTensors``; a history of at least one step."""

    def __init__(self, reference: CtrModel, *, rows_given: bool = False, for_onnx: bool = True) -> None:
        """The blocks that are rewritten are copies of those of ``reference`` and share its parameters.

        rows_given: ids, bag values and behaviours come as table rows, in the order of their fields, the rows of the
        hashed crosses as the last columns of ``item_ids``. for_onnx: the recurrences are operators that run any
        number of steps; else the reference's, which a compiler unrolls.
        """
        super().__init__()
        self.model = copy.copy(reference)
        self.model._modules = dict(reference._modules)
        schema = reference.features.schema
        self.model.features = OneUserFeatures(schema, rows_given)
        self.model.embedding = _with_weights(PaddedTables, reference.embedding)
        if hasattr(reference, "wide"):
            self.model.wide = _with_weights(PaddedWideTables, reference.wide)
        if for_onnx and hasattr(reference, "augru"):
            self.model.gru = _with_weights(OperatorGru, reference.gru)
            self.model.augru = _with_weights(ScanAugru, reference.augru)
        self.model.expand_first = False  # the features block copies the user's columns itself

    def forward(
        self,
        user_dense: Tensor,
        user_ids: Tensor,
        user_bag_values: Tensor,
        user_bag_offsets: Tensor,
        item_dense: Tensor,
        item_ids: Tensor,
        item_bag_values: Tensor,
        item_bag_offsets: Tensor,
        history: Tensor,
        history_offsets: Tensor,
        user_of: Tensor,
    ) -> Tensor:
        """Click probabilities [N]."""
        user = SideTensors(user_dense, user_ids, user_bag_values, user_bag_offsets)
        item = SideTensors(item_dense, item_ids, item_bag_values, item_bag_offsets)
        return self.model.score(RawTensors(user, item, history, history_offsets, user_of))


class OneUserFeatures(FeatureTransform):
    """``FeatureTransform`` with padded bags: ``bag_rows`` [R, B, L], and in place of offsets their lengths [R, B]."""

    def __init__(self, schema: Schema, rows_given: bool) -> None:
        super().__init__(schema)
        self.rows_given = rows_given
        self.padding = 0 if rows_given else MISSING_ID  # row 0 in either case

    def forward(self, raw: RawTensors) -> Features:
        """Engineered columns, the user's once per candidate."""
        user_of = raw.user_of
        assert user_of is not None
        user, item = self._engineered(raw.user, "user", user_of), self._engineered(raw.item, "item", None)
        behaviours = raw.history.unsqueeze(0).index_select(0, user_of)
        columns = [self._rows(behaviours[..., k], field) for k, field in enumerate(self.schema.history)]
        history = torch.stack(columns, -1) if columns else user_of.new_zeros(user_of.shape[0], 1, 0)
        lengths = (raw.history_offsets[1:] - raw.history_offsets[:-1]).index_select(0, user_of)
        given = raw.item.ids[:, len(self.schema.ids_of("item")) :]
        crosses = given if self.rows_given else self._crosses(user.rows, item.rows, None)
        return Features(user, item, history, lengths, crosses, None)

    def _engineered(self, raw: SideTensors, side: Side, user_of: Tensor | None) -> SideFeatures:
        bags = self.schema.bags_of(side)
        dense, ids = raw.dense, raw.ids
        bounds = (dense.shape[0], len(bags))  # not -1: without a bag column there are no elements to count
        starts, ends = raw.bag_offsets[:-1].view(bounds), raw.bag_offsets[1:].view(bounds)
        if user_of is not None:
            dense, ids, starts, ends = (x.index_select(0, user_of) for x in (dense, ids, starts, ends))
        columns = [normalised(dense[:, k], field) for k, field in enumerate(self.schema.dense_of(side))]
        rows = [self._id_rows(dense, ids, k, field) for k, field in enumerate(self.schema.ids_of(side))]
        return SideFeatures(
            torch.stack(columns, 1) if columns else dense,
            torch.stack(rows, 1) if rows else ids,
            self._padded_bag_rows(raw.bag_values, starts, ends - starts, bags),
            ends - starts,
        )

    def _id_rows(self, dense: Tensor, ids: Tensor, place: int, field: IdField) -> Tensor:
        if self.rows_given:
            return ids[:, place]
        if field.source == "bucket":
            return bucket_rows(dense[:, field.column], field.rows)
        return self._rows(ids[:, field.column], field)

    def _padded_bag_rows(self, values: Tensor, starts: Tensor, lengths: Tensor, bags: tuple[BagField, ...]) -> Tensor:
        """Table rows [R, B, L] of ragged ``values``, L the longest bag."""
        if not bags:
            return values
        longest = lengths.max().item()
        torch._check(longest >= 0)
        steps = torch.arange(longest, device=values.device)
        # One value behind the last stands for all padding: a neighbour's may lie outside of this field's table.
        padded = torch.cat((values, values.new_full((1,), self.padding)))
        places = torch.where(steps < lengths.unsqueeze(2), starts.unsqueeze(2) + steps, values.shape[0])
        found = padded[places]
        return torch.stack([self._rows(found[:, field.column], field) for field in bags], 1)

    def _rows(self, raw: Tensor, field: TableField) -> Tensor:
        return raw if self.rows_given else table_rows(raw, field)


class PaddedTables(EmbeddingTables):
    """``EmbeddingTables`` on the padded bags of ``OneUserFeatures``."""

    def _side(self, features: SideFeatures, side: Side) -> Tensor:
        parts = [self.tables[f.table](features.rows[:, k]) for k, f in enumerate(self.schema.ids_of(side))]
        parts += [_pooled(self.tables[field.table], features, field) for field in self.schema.bags_of(side)]
        return torch.cat(parts, 1) if parts else features.dense.new_zeros(features.dense.shape[0], 0)


class PaddedWideTables(WideTables):
    """``WideTables`` on the padded bags of ``OneUserFeatures``."""

    def _side(self, features: SideFeatures, side: Side, dense: Tensor) -> Tensor:
        logit = features.dense @ dense
        for k, field in enumerate(self.schema.ids_of(side)):
            logit = logit + self.tables[field.name](features.rows[:, k]).squeeze(1)
        for bag in self.schema.bags_of(side):
            logit = logit + _pooled(self.tables[bag.name], features, bag).squeeze(1)
        return logit


class OperatorGru(Gru):
    """``Gru`` that becomes one operator GRU of ONNX. (The exporter's own translation fixes the number of steps.)"""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [N, T, inputs] to states [N, T, h], zero past ``lengths`` [N]."""
        if not torch.compiler.is_exporting():
            return super().forward(x, lengths)
        hidden = self.weight_hh.shape[1]
        inputs, states = _gates_of_onnx(self.weight_ih), _gates_of_onnx(self.weight_hh)
        biases = torch.cat((_gates_of_onnx(self.bias_ih), _gates_of_onnx(self.bias_hh)))
        found: Tensor = torch.onnx.ops.symbolic(
            "GRU",
            (x.transpose(0, 1), inputs.unsqueeze(0), states.unsqueeze(0), biases.unsqueeze(0)),
            attrs={"hidden_size": hidden, "linear_before_reset": 1},  # as in nn.GRU: r * (U h + b)
            dtype=x.dtype,
            shape=(x.shape[1], 1, x.shape[0], hidden),
            version=GRU_OPSET,
        )
        return found.squeeze(1).transpose(0, 1) * step_mask(lengths, x.shape[1]).unsqueeze(-1)


class ScanAugru(Augru):
    """``Augru`` with its steps as one scan, whose length the graph does not fix."""

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """x [N, T, inputs], scores [N, T] to the last state [N, h]; ``user_of`` is None."""
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        attention = (scores * step_mask(lengths, x.shape[1])).unsqueeze(-1)
        first = x.new_zeros(x.shape[0], self.weight_hh.shape[1])

        def step(state: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            following = self._step(at[0], at[1], state)
            return following, following.clone()

        last, _ = scan(step, first, (gates.transpose(0, 1), attention.transpose(0, 1)))
        return last


def _with_weights(kind: type[Any], reference: nn.Module) -> Any:
    """The reference block with the methods of ``kind``, a subclass of its own class that adds no state."""
    made = copy.copy(reference)
    made.__class__ = kind
    return made


def _gates_of_onnx(stacked: Tensor) -> Tensor:
    """reset, update, candidate to update, reset, candidate."""
    hidden = stacked.shape[0] // 3
    # Slices, not chunks: those the exporter folds into the weights.
    return torch.cat((stacked[hidden : 2 * hidden], stacked[:hidden], stacked[2 * hidden :]))


def _pooled(table: nn.Embedding, features: SideFeatures, field: BagField) -> Tensor:
    """Summed or averaged rows [R, dim] of one bag column."""
    rows, lengths = features.bag_rows[:, field.column], features.bag_offsets[:, field.column].unsqueeze(1)
    real = torch.arange(rows.shape[1], device=rows.device) < lengths
    total = (table(rows) * real.unsqueeze(2)).sum(1)
    return total / lengths.clamp(min=1) if field.pooling == "mean" else total
