"""Embedding tables: concatenated vectors for the deep part, single weights for the wide part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blueprint import field_dim
from zoo.configs import ModelConfig
from zoo.layers.derived import derived
from zoo.layers.ragged import split_bags, to_samples
from zoo.layers.tensors import Embedded, Features, SideFeatures
from zoo.schema import BagField, IdField, Schema, Side

INITIAL_STD = 0.01


def side_vectors(
    features: SideFeatures, ids: Sequence[nn.Embedding], bags: Sequence[tuple[nn.Embedding, str]]
) -> list[Tensor]:
    """Vectors [R, dim] of one side: the row of each table of ``ids``, then of each table of ``bags`` its sum or mean.

    Tables stand in field order; an empty bag gives zeros.
    """
    columns = turned(features.rows)
    segments = split_bags(features.bag_rows, features.bag_offsets, len(bags))
    return [table(column) for table, column in zip(ids, columns, strict=True)] + [
        F.embedding_bag(rows, table.weight, offsets, mode=pooling, sparse=table.sparse, include_last_offset=True)
        for (table, pooling), (rows, offsets) in zip(bags, segments, strict=True)
    ]


@derived
def turned(rows: Tensor) -> Tensor:
    """Rows [R, F] as [F, R], all at once: a lookup would copy indices that do not lie next to each other."""
    return rows.t().contiguous()


class EmbeddingTables(nn.Module):
    """One table per ``schema.tables()``; every field looks its rows up, the results are concatenated.

    Gradients are sparse: a training step costs what the batch touches, not what the table holds.
    """

    def __init__(self, config: ModelConfig, schema: Schema) -> None:
        super().__init__()
        self.schema = schema
        dims: dict[str, int] = {}
        named = [(f.name, f.table) for f in (*schema.ids, *schema.bags)] + [(f.target, f.table) for f in schema.history]
        for name, table in named:
            dim = field_dim(config, name)
            if dims.setdefault(table, dim) != dim:
                raise ValueError(f"field {name!r} asks for {dim} columns of table {table!r}, which has {dims[table]}")
        sizes = schema.tables()
        self.tables = nn.ModuleDict({name: _table(sizes[name], dim) for name, dim in dims.items()})
        items = schema.ids_of("item")
        ends = torch.tensor([0, *(dims[field.table] for field in items)]).cumsum(0).tolist()
        spans = {field.name: (ends[k], ends[k + 1]) for k, field in enumerate(items)}
        self.target_spans = tuple(spans[field.target] for field in schema.history)

    def forward(self, features: Features) -> Embedded:
        """Vectors of both sides, of the targets and of the behaviours."""
        user, item = self._side(features.user, "user"), self._side(features.item, "item")
        target = [item[:, first:last] for first, last in self.target_spans]
        return Embedded(
            user=user,
            item=item,
            target=torch.cat(target, 1) if target else item.new_zeros(len(item), 0),
            history=self.behaviours(features.history),
        )

    def behaviours(self, rows: Tensor) -> Tensor:
        """Concatenated vectors [..., W] of behaviours given as table rows [..., H]."""
        parts = [self.tables[f.table](column) for f, column in zip(self.schema.history, rows.unbind(-1), strict=True)]
        return torch.cat(parts, -1) if parts else rows.new_zeros(*rows.shape[:-1], 0, dtype=torch.float32)

    def _side(self, features: SideFeatures, side: Side) -> Tensor:
        ids = [self.tables[field.table] for field in self.schema.ids_of(side)]
        bags = [(self.tables[field.table], field.pooling) for field in self.schema.bags_of(side)]
        parts = side_vectors(features, ids, bags)
        return torch.cat(parts, 1) if parts else features.dense.new_zeros(len(features.dense), 0)


class WideTables(nn.Module):
    """The wide part of Wide & Deep (Cheng et al., 2016, section 3.1): a linear model with its own weight per id.

    One weight per row of every id field, bag and hashed cross, a linear on the dense values, and a bias; logit [N].
    All start at zero, where FTRL-Proximal starts.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.schema = schema
        fields: tuple[IdField | BagField, ...] = (*schema.ids, *schema.bags)
        self.tables = nn.ModuleDict({field.name: _zeros(field.rows) for field in fields})
        self.crosses = nn.ModuleDict({field.name: _zeros(field.rows) for field in schema.crosses})
        self.dense = nn.Parameter(torch.zeros(len(schema.dense)))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features: Features) -> Tensor:
        """Logit [N]."""
        split = len(self.schema.dense_of("user"))
        user = self._side(features.user, "user", self.dense[:split])
        item = self._side(features.item, "item", self.dense[split:])
        logit = to_samples(user, features.user_of) + item + self.bias
        crosses = [table(rows) for table, rows in zip(self.crosses.values(), features.crosses.unbind(1), strict=True)]
        return logit + torch.cat(crosses, 1).sum(1) if crosses else logit

    def _side(self, features: SideFeatures, side: Side, dense: Tensor) -> Tensor:
        ids = [self.tables[field.name] for field in self.schema.ids_of(side)]
        bags = [(self.tables[field.name], field.pooling) for field in self.schema.bags_of(side)]
        weights = side_vectors(features, ids, bags)
        logit = features.dense @ dense
        return logit + torch.cat(weights, 1).sum(1) if weights else logit


def _table(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim, sparse=True, _weight=torch.empty(rows, dim))
    nn.init.normal_(table.weight, std=INITIAL_STD)
    return table


def _zeros(rows: int) -> nn.Embedding:
    return nn.Embedding(rows, 1, sparse=True, _weight=torch.zeros(rows, 1))
