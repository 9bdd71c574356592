"""Embedding tables in training: one native lookup forward, and backward the rows and vectors of each table's gradient.

The framework makes a sparse gradient for every use of a table, and where two meet it coalesces both to add them. Here a
table's gradients are laid side by side, uncoalesced (``row_pieces``): autograd knows the looked-up vectors alone.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optimizations.fusion.packed_rows import packed_steps, real_count, rows_of_steps
from optimizations.fusion.row_pieces import Piece, in_rows
from optimizations.fusion.side_pieces import SIDES, Pieces, add_all, tables_of_side
from optimizations.fusion.torch_embedding import FusedEmbedding, FusedWide, merged
from zoo.layers.derived import derived
from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.ragged import to_samples
from zoo.layers.tensors import Embedded, Features


class TrainedTables(EmbeddingTables):
    """``EmbeddingTables`` with the tables of ``reference``, the same objects under the same names."""

    def __init__(self, reference: EmbeddingTables) -> None:
        nn.Module.__init__(self)
        self.schema, self.tables, self.target_spans = reference.schema, reference.tables, reference.target_spans
        self._anchor = torch.zeros((), requires_grad=True)
        self._look_up = FusedEmbedding(reference, bf16=False, threads=1)
        self.user_tables, self.item_tables = (
            tables_of_side(self.schema, side, lambda field: self.tables[field.table].weight, one=False)
            for side in SIDES
        )
        self._history_tables = [self.tables[field.table].weight for field in self.schema.history]

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedTables:
        """Of the tables alone: what looks them up is made anew."""
        reference = EmbeddingTables.__new__(EmbeddingTables)
        nn.Module.__init__(reference)
        reference.schema, reference.target_spans = self.schema, self.target_spans
        reference.tables = copy.deepcopy(self.tables, memo)
        return TrainedTables(reference)

    def forward(self, features: Features) -> Embedded:
        """Vectors of both sides, of the targets and of the behaviours."""
        user, item, history, summed = _LookUp.apply(self._anchor, self, features)
        parts = [item[:, first:last] for first, last in merged(self.target_spans)]
        target = parts[0] if len(parts) == 1 else torch.cat(parts, 1) if parts else item[:, :0]
        return Embedded(user, item, target, history, summed)

    def behaviours(self, rows: Tensor) -> Tensor:
        """Concatenated vectors [..., W] of behaviours given as table rows [..., H]."""
        if not self.schema.history:
            return super().behaviours(rows)
        found: Tensor = _Behaviours.apply(self._anchor, self, rows)
        return found

    def looked_up(self, features: Features) -> Embedded:
        """The native lookup, without gradients."""
        self._look_up.threads = torch.get_num_threads()
        found: Embedded = self._look_up(features)
        return found

    def looked_up_behaviours(self, rows: Tensor) -> Tensor:
        """Vectors [..., W] of behaviours [..., H] in one native call, without gradients."""
        return self._look_up.behaviours(rows, torch.get_num_threads())

    def by_rows(self) -> Iterator[nn.Parameter]:
        """The tables."""
        return (table.weight for table in self.tables.values())

    def pieces_of_behaviours(self, rows: Tensor, gradient: Tensor, pieces: Pieces) -> None:
        """Take the gradient [n, W] of behaviours [n, H] apart."""
        first, gradient = 0, in_rows(gradient)
        for column, table in enumerate(self._history_tables):
            pieces[table].append(Piece(rows, column, gradient, first))
            first += table.shape[1]


class TrainedWide(WideTables):
    """``WideTables`` with the parameters of ``reference``, the same objects under the same names."""

    def __init__(self, reference: WideTables) -> None:
        nn.Module.__init__(self)
        self.schema, self.tables, self.crosses = reference.schema, reference.tables, reference.crosses
        self.dense, self.bias = reference.dense, reference.bias
        self._anchor = torch.zeros((), requires_grad=True)
        # Its own linear part stands still: that of the dense values and the bias are the framework's.
        still = WideTables.__new__(WideTables)
        nn.Module.__init__(still)
        still.schema, still.tables, still.crosses = self.schema, self.tables, self.crosses
        still.dense, still.bias = (torch.zeros_like(each.detach()) for each in (self.dense, self.bias))
        self._sum_up = FusedWide(still)
        self.user_tables, self.item_tables = (
            tables_of_side(self.schema, side, lambda field: self.tables[field.name].weight, one=True) for side in SIDES
        )
        self.cross_tables = [table.weight for table in self.crosses.values()]

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedWide:
        """Of the parameters alone."""
        reference = WideTables.__new__(WideTables)
        nn.Module.__init__(reference)
        reference.schema = self.schema
        for name in ("tables", "crosses", "dense", "bias"):
            setattr(reference, name, copy.deepcopy(getattr(self, name), memo))
        return TrainedWide(reference)

    def forward(self, features: Features) -> Tensor:
        """Logit [N]."""
        split = len(self.schema.dense_of("user"))
        user, item = features.user.dense @ self.dense[:split], features.item.dense @ self.dense[split:]
        looked_up: Tensor = _WideSum.apply(self._anchor, self, features)
        return looked_up + to_samples(user, features.user_of) + item + self.bias

    def by_rows(self) -> Iterator[nn.Parameter]:
        """All but the weights of dense values and the bias."""
        return (table.weight for tables in (self.tables, self.crosses) for table in tables.values())

    def summed(self, features: Features) -> Tensor:
        """The native sum of all looked-up weights [N], without gradients."""
        found: Tensor = self._sum_up(features)
        return found


class _LookUp(torch.autograd.Function):
    """All lookups of a batch with U = N."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, tables: TrainedTables, features: Features) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.tables, ctx.features = tables, features
        found = tables.looked_up(features)
        assert found.summed is not None
        return found.user, found.item, found.history, found.summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, user: Tensor, item: Tensor, history: Tensor, summed: Tensor) -> tuple[None, ...]:  # type: ignore[override]
        tables, features = ctx.tables, ctx.features
        pieces: Pieces = defaultdict(list)
        tables.user_tables.add_to(pieces, features.user, user)
        tables.item_tables.add_to(pieces, features.item, item)
        if tables.schema.history:
            rows, gradient = _real_steps(features, history, summed)
            tables.pieces_of_behaviours(rows, gradient, pieces)
        add_all(pieces)
        return None, None, None


class _Behaviours(torch.autograd.Function):
    """Lookups of behaviours outside of a batch: those that are sampled."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, tables: TrainedTables, rows: Tensor) -> Tensor:  # type: ignore[override]
        ctx.tables, ctx.rows = tables, rows
        return tables.looked_up_behaviours(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:  # type: ignore[override]
        pieces: Pieces = defaultdict(list)
        ctx.tables.pieces_of_behaviours(ctx.rows.flatten(0, -2), gradient.flatten(0, -2), pieces)
        add_all(pieces)
        return None, None, None


class _WideSum(torch.autograd.Function):
    """The looked-up weights of a batch with U = N, summed: every one of them gets the gradient of its sample."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, wide: TrainedWide, features: Features) -> Tensor:  # type: ignore[override]
        ctx.wide, ctx.features = wide, features
        return wide.summed(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:  # type: ignore[override]
        wide, features = ctx.wide, ctx.features
        each = gradient.unsqueeze(1)
        pieces: Pieces = defaultdict(list)
        wide.user_tables.add_to(pieces, features.user, each)
        wide.item_tables.add_to(pieces, features.item, each)
        for column, table in enumerate(wide.cross_tables):
            pieces[table].append(Piece(features.crosses, column, each))
        add_all(pieces)
        return None, None, None


def _real_steps(features: Features, history: Tensor, summed: Tensor) -> tuple[Tensor, Tensor]:
    """Table rows [n, H] and gradients [n, W] of all behaviours, and of one that pads if any does: its gradient is zero,
    but ``embedding_l2`` moves a row that is touched."""
    rows = real_rows(features.history, features.lengths)
    return rows, packed_steps(history, summed, features.lengths, len(rows))


@derived
def real_rows(history: Tensor, lengths: Tensor) -> Tensor:
    """Table rows [n, H] of all behaviours in ``history`` [U, T, H]; behind them one of zeros if any row is padded."""
    padded = real_count(lengths) < len(lengths) * history.shape[1]
    return rows_of_steps(history, lengths, 0, int(padded))[0]
