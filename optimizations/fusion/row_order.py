"""Where each distinct row stands in the lists of rows that tables' gradients are: one native call for all tables."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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
def row_order(lists: tuple[tuple[Tensor, ...], ...], table_rows: tuple[int, ...]) -> RowOrder:
    """Sort the ``lists``, each of pieces int64 [n] that follow one another, of tables of ``table_rows`` rows; a list
    has fewer than 2^32."""
    counts = [sum(len(piece) for piece in pieces) for pieces in lists]
    total = sum(counts)
    order, starts = torch.empty(total, dtype=torch.int32), torch.zeros(total + len(lists), dtype=torch.int32)
    of_piece = [(piece.data_ptr(), 0, piece.stride(0), 0, len(piece)) for pieces in lists for piece in pieces]
    of_list, place, first = (RowList * len(lists))(), 0, 0
    for k, (pieces, count, size) in enumerate(zip(lists, counts, table_rows, strict=True)):
        pointers = (order.data_ptr() + 4 * place, starts.data_ptr() + 4 * (place + k))
        of_list[k] = RowList(first, len(pieces), count, size, *pointers, 0)
        place, first = place + count, first + len(pieces)
    described = (RowPiece * len(of_piece))(*of_piece)
    load_kernels().recarena_sort_rows(of_list, len(lists), described, torch.get_num_threads())
    return RowOrder(order, starts, [each.groups for each in of_list])
