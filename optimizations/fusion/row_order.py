"""Where each distinct row stands in the lists of rows that tables' gradients are: one native call for all tables."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optimizations.fusion.row_pieces import Places
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import RowList, RowPiece
from zoo.layers.derived import derived


class RowOrder(NamedTuple):
    """Of every list, one after another: its places in order of their rows, places of one row in their own order; and
    where each distinct row begins among them, the end of the list after the last one.

    order: int32 [total]. starts: int32 [total + lists], of which each list has one more than its length for itself.
    groups: distinct rows by list.
    """

    order: Tensor
    starts: Tensor
    groups: list[int]


@derived
def row_order(
    matrices: tuple[Tensor, ...], lists: tuple[tuple[tuple[int, int], ...], ...], table_rows: tuple[int, ...]
) -> RowOrder:
    """Sort lists of rows, each of pieces that follow one another: (number of one of the ``matrices``, its column); of
    tables of ``table_rows`` rows. matrices: int64 [n, F] or [n]. A list has fewer than 2^32 rows."""
    where = Places()
    places = [where.of(matrix) for matrix in matrices]
    counts = [sum(places[number][3] for number, _ in pieces) for pieces in lists]
    total = sum(counts)
    order, starts = torch.empty(total, dtype=torch.int32), torch.zeros(total + len(lists), dtype=torch.int32)
    of_piece = [
        (address + 8 * apart * column, 0, stride, 0, count, 0, 0, 0)
        for pieces in lists
        for (address, stride, apart, count), column in ((places[number], column) for number, column in pieces)
    ]
    of_list, place, first = (RowList * len(lists))(), 0, 0
    at_order, at_starts = order.data_ptr(), starts.data_ptr()
    for k, (pieces, count, size) in enumerate(zip(lists, counts, table_rows, strict=True)):
        pointers = (at_order + 4 * place, at_starts + 4 * (place + k))
        of_list[k] = RowList(first, len(pieces), count, size, *pointers, 0)
        place, first = place + count, first + len(pieces)
    described = (RowPiece * len(of_piece))(*of_piece)
    load_kernels().recarena_sort_rows(of_list, len(lists), described, torch.get_num_threads())
    return RowOrder(order, starts, [each.groups for each in of_list])
