"""Where each distinct row stands in the lists of rows that tables' gradients are: one native call for all tables."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import RowList
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
def row_order(rows: tuple[Tensor, ...], table_rows: tuple[int, ...]) -> RowOrder:
    """Sort the lists ``rows``, each int64 [n], n below 2^32, of tables of ``table_rows`` rows."""
    total = sum(len(each) for each in rows)
    order, starts = torch.empty(total, dtype=torch.int32), torch.zeros(total + len(rows), dtype=torch.int32)
    lists, place = (RowList * len(rows))(), 0
    for k, (own, size) in enumerate(zip(rows, table_rows, strict=True)):
        pointers = (order.data_ptr() + 4 * place, starts.data_ptr() + 4 * (place + k))
        lists[k] = RowList(own.data_ptr(), own.stride(0), len(own), size, *pointers, 0)
        place += len(own)
    load_kernels().recarena_sort_rows(lists, len(rows), torch.get_num_threads())
    return RowOrder(order, starts, [each.groups for each in lists])
