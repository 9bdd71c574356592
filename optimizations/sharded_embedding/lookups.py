"""The lookups of a step as rows of named tables, and what ``zoo.layers.embedding`` makes of the vectors found there.

Rows go out and vectors come back in one order: the user's ids and bags, the item's, the histories, the sampled
behaviours of DIEN's auxiliary loss; then those of the wide part, if the model has one, and its crosses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.layers.embedding import EmbeddingTables, WideTables, turned
from zoo.layers.ragged import divisors, split_bags
from zoo.layers.tensors import Embedded, Features, SideFeatures, TrainingInput
from zoo.models.ctr_model import CtrModel
from zoo.models.dien import followed
from zoo.schema import Schema, Side


class Lookup(NamedTuple):
    """Rows [n] of the table whose parameter has this name."""

    table: str
    rows: Tensor


class Lookups:
    """Those of ``model`` in training (U = N): of its block "embedding", and of its block "wide" where it has one."""

    def __init__(self, model: CtrModel, schema: Schema) -> None:
        tables = model.embedding
        assert isinstance(tables, EmbeddingTables)
        wide = dict(model.named_children()).get("wide")
        assert wide is None or isinstance(wide, WideTables)
        self._schema, self._target_spans, self._wide = schema, tables.target_spans, wide

    def of(self, given: TrainingInput) -> list[Lookup]:
        """All rows that a step asks for; padded steps of a history ask for row 0, as the reference does."""
        features = given.features
        found = [*self._side(features.user, "user", False), *self._side(features.item, "item", False)]
        found += self._behaviours(features.history)
        if given.negatives is not None:
            found += self._behaviours(followed(features.lengths, given.negatives)[-1])
        if self._wide is not None:
            found += [*self._side(features.user, "user", True), *self._side(features.item, "item", True)]
            for cross, column in zip(self._schema.crosses, features.crosses.unbind(1), strict=True):
                found.append(Lookup(f"wide.crosses.{cross.name}.weight", column.contiguous()))
        return found

    def embedded(self, given: TrainingInput, vectors: Iterable[Tensor]) -> tuple[Embedded, Tensor | None]:
        """What the blocks of the role embedding give, and vectors [R, W] of the sampled behaviours or None, from the
        vectors [n, d] of each of ``of(given)``."""
        features, coming = given.features, iter(vectors)
        user, item = self._joined(features.user, "user", coming), self._joined(features.item, "item", coming)
        history = [next(coming).unflatten(0, features.history.shape[:2]) for _ in self._schema.history]
        sampled = None if given.negatives is None else torch.cat([next(coming) for _ in self._schema.history], 1)
        target = [item[:, first:last] for first, last in self._target_spans]
        embedded = Embedded(
            user=user,
            item=item,
            target=torch.cat(target, 1) if target else item.new_zeros(len(item), 0),
            history=torch.cat(history, -1) if history else item.new_zeros(*features.history.shape[:2], 0),
            wide=None if self._wide is None else self._wide_logit(self._wide, features, coming),
        )
        return embedded, sampled

    def _side(self, features: SideFeatures, side: Side, wide: bool) -> list[Lookup]:
        fields = (*self._schema.ids_of(side), *self._schema.bags_of(side))
        names = [f"wide.tables.{f.name}.weight" if wide else f"embedding.tables.{f.table}.weight" for f in fields]
        bags = split_bags(features.bag_rows, features.bag_offsets, len(self._schema.bags_of(side)))
        rows = [*turned(features.rows), *(own for own, _ in bags)]
        return [Lookup(name, column) for name, column in zip(names, rows, strict=True)]

    def _behaviours(self, rows: Tensor) -> list[Lookup]:
        """Of rows [..., H], a column per history field."""
        return [
            Lookup(f"embedding.tables.{field.table}.weight", column.reshape(-1))
            for field, column in zip(self._schema.history, rows.unbind(-1), strict=True)
        ]

    def _joined(self, features: SideFeatures, side: Side, coming: Iterator[Tensor]) -> Tensor:
        """Vectors [R, width] of one side: of its ids as they are, of its bags their sum or mean."""
        fields = self._schema.bags_of(side)
        bags = split_bags(features.bag_rows, features.bag_offsets, len(fields))
        parts = [next(coming) for _ in self._schema.ids_of(side)]
        parts += [
            pooled(next(coming), offsets, field.pooling == "mean")
            for field, (_, offsets) in zip(fields, bags, strict=True)
        ]
        return torch.cat(parts, 1) if parts else features.dense.new_zeros(len(features.dense), 0)

    def _wide_logit(self, wide: WideTables, features: Features, coming: Iterator[Tensor]) -> Tensor:
        split = len(self._schema.dense_of("user"))
        user = self._joined(features.user, "user", coming).sum(1) + features.user.dense @ wide.dense[:split]
        item = self._joined(features.item, "item", coming).sum(1) + features.item.dense @ wide.dense[split:]
        crosses = [next(coming).squeeze(1) for _ in self._schema.crosses]
        return sum(crosses, user + item + wide.bias)


def pooled(vectors: Tensor, offsets: Tensor, mean: bool) -> Tensor:
    """Sum, or mean, [R, d] of the vectors [n, d] of each of R bags that begin at ``offsets`` [R + 1]; empty: zeros."""
    lengths = offsets[1:] - offsets[:-1]
    bag = torch.repeat_interleave(torch.arange(len(lengths), device=vectors.device), lengths)
    total = vectors.new_zeros(len(lengths), vectors.shape[1]).index_add(0, bag, vectors)
    return total / divisors(lengths) if mean else total


def in_table_order(lookups: Sequence[Lookup], tables: Sequence[str]) -> list[int]:
    """Numbers of the lookups in ``tables``, those in the first one first."""
    return [number for table in tables for number, lookup in enumerate(lookups) if lookup.table == table]
