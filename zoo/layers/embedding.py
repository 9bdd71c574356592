"""Embedding tables: concatenated vectors for the deep part, single weights for the wide part."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blueprint import field_dim
from zoo.configs import ModelConfig
from zoo.layers.ragged import bag_columns, to_samples
from zoo.layers.tensors import Embedded, Features, SideFeatures
from zoo.schema import BagField, IdField, Schema

INITIAL_STD = 0.01


def bag_of(features: SideFeatures, column: int, bags: int) -> tuple[Tensor, Tensor]:
    """(rows [total_b], offsets [R + 1]) of one bag column out of ``bags`` that lie interleaved."""
    if bags == 1:
        return features.bag_rows, features.bag_offsets
    lengths = (features.bag_offsets[1:] - features.bag_offsets[:-1]).view(-1, bags)[:, column]
    mine = bag_columns(features.bag_offsets, bags) == column
    return features.bag_rows[mine], F.pad(lengths.cumsum(0), (1, 0))


def pool_bag(table: nn.Embedding, features: SideFeatures, field: BagField, bags: int) -> Tensor:
    """Summed or averaged rows [R, dim] of one bag column; an empty bag gives zeros."""
    rows, offsets = bag_of(features, field.column, bags)
    return F.embedding_bag(
        rows, table.weight, offsets, mode=field.pooling, sparse=table.sparse, include_last_offset=True
    )


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
        user = self._side(features.user, self.schema.ids_of("user"), self.schema.bags_of("user"))
        item = self._side(features.item, self.schema.ids_of("item"), self.schema.bags_of("item"))
        target = [item[:, first:last] for first, last in self.target_spans]
        return Embedded(
            user=user,
            item=item,
            target=torch.cat(target, 1) if target else item.new_zeros(len(item), 0),
            history=self.behaviours(features.history),
        )

    def behaviours(self, rows: Tensor) -> Tensor:
        """Concatenated vectors [..., W] of behaviours given as table rows [..., H]."""
        parts = [self.tables[field.table](rows[..., k]) for k, field in enumerate(self.schema.history)]
        return torch.cat(parts, -1) if parts else rows.new_zeros(*rows.shape[:-1], 0, dtype=torch.float32)

    def _side(self, features: SideFeatures, ids: tuple[IdField, ...], bags: tuple[BagField, ...]) -> Tensor:
        parts = [self.tables[field.table](features.rows[:, k]) for k, field in enumerate(ids)]
        parts += [pool_bag(self.tables[field.table], features, field, len(bags)) for field in bags]
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
        user = self._side(features.user, self.schema.ids_of("user"), self.schema.bags_of("user"), self.dense[:split])
        item = self._side(features.item, self.schema.ids_of("item"), self.schema.bags_of("item"), self.dense[split:])
        logit = to_samples(user, features.user_of) + item + self.bias
        for k, field in enumerate(self.schema.crosses):
            logit = logit + self.crosses[field.name](features.crosses[:, k]).squeeze(1)
        return logit

    def _side(
        self, features: SideFeatures, ids: tuple[IdField, ...], bags: tuple[BagField, ...], dense: Tensor
    ) -> Tensor:
        logit = features.dense @ dense
        for k, field in enumerate(ids):
            logit = logit + self.tables[field.name](features.rows[:, k]).squeeze(1)
        for bag in bags:
            logit = logit + pool_bag(self.tables[bag.name], features, bag, len(bags)).squeeze(1)
        return logit


def _table(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim, sparse=True, _weight=torch.empty(rows, dim))
    nn.init.normal_(table.weight, std=INITIAL_STD)
    return table


def _zeros(rows: int) -> nn.Embedding:
    return nn.Embedding(rows, 1, sparse=True, _weight=torch.zeros(rows, 1))
