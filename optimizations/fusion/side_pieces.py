"""The gradient of all that a side looks up, taken apart into pieces of its tables' gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from optimizations.fusion.row_pieces import Bag, Piece, add_pieces, bag_entries, in_rows
from zoo.layers.tensors import SideFeatures
from zoo.schema import BagField, IdField, Schema, Side

Pieces = dict[nn.Parameter, list[Piece]]
"""By table."""
SIDES: tuple[Side, ...] = ("user", "item")


class SideTables(NamedTuple):
    """Where the vectors of a side's fields lie in what is looked up: by field, its table and its first column.

    ids: the table, whose rows are the column of the same number. bags: with whether it is a mean.
    """

    ids: tuple[tuple[nn.Parameter, int], ...]
    bags: tuple[tuple[nn.Parameter, int, bool], ...]

    def add_to(self, pieces: Pieces, features: SideFeatures, gradient: Tensor) -> None:
        """Take the gradient [R, E] of the side's vectors apart."""
        gradient = in_rows(gradient)
        for column, (table, first) in enumerate(self.ids):
            pieces[table].append(Piece(features.rows, column, gradient, first))
        if not self.bags:
            return
        offsets, count = features.bag_offsets, len(self.bags)
        entries = bag_entries(features.bag_rows, offsets, count)
        for number, ((table, first, mean), (rows, of)) in enumerate(zip(self.bags, entries, strict=True)):
            pieces[table].append(Piece(rows, 0, gradient, first, Bag(of, offsets if mean else None, number, count)))


def tables_of_side(
    schema: Schema, side: Side, table: Callable[[IdField | BagField], nn.Parameter], one: bool
) -> SideTables:
    """Of tables by field. one: all fields have the gradient's one column, not columns of their own."""
    first, ids, bags = 0, list[tuple[nn.Parameter, int]](), list[tuple[nn.Parameter, int, bool]]()
    for field in schema.ids_of(side):
        ids.append((table(field), first))
        first += 0 if one else table(field).shape[1]
    for bag in schema.bags_of(side):
        bags.append((table(bag), first, bag.pooling == "mean"))
        first += 0 if one else table(bag).shape[1]
    return SideTables(tuple(ids), tuple(bags))


def add_all(pieces: Pieces) -> None:
    """Lay the pieces beside what the tables' gradients hold already."""
    for table, found in pieces.items():
        add_pieces(table, found)
