"""The fused embedding blocks: every table in one native call, each vector written once, into its place."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from ctypes import c_int64
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from optimizations.kernels.interface import EmbeddedSide, Handle, History, Lookup, Table
from optimizations.kernels.loader import load_kernels
from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.tensors import Embedded, Features, SideFeatures
from zoo.schema import BagField, HistoryField, IdField, Schema
from zoo.schema import Side as SideName

LOOKUP_WORDS, HISTORY_WORDS = ctypes.sizeof(Lookup) // 8, ctypes.sizeof(History) // 8
Field = IdField | BagField | HistoryField


class _Scratch(threading.local):
    """Per thread: the structures of the call, lookups first, written anew each time."""

    def __init__(self, words: int) -> None:
        self.words = (c_int64 * words)()
        self.pointer = ctypes.addressof(self.words)


class HotTable(NamedTuple):
    """Some rows of a table that lie in memory of their own, and the index that finds them.

    rows: [H, width] fp32. index: int32 [rows of the table], the place of each row among them, or -1; or uint32
    [rows of the table / 32, 2], of 32 rows each which of them are hot, bit by bit, and the place of the first one (then
    hot rows stand in their own order).
    """

    rows: npt.NDArray[np.float32]
    index: npt.NDArray[np.int32] | npt.NDArray[np.uint32]

    def addresses(self) -> tuple[int, int | None, int | None]:
        """Of the rows, of their places, of their marks."""
        index = self.index.ctypes.data
        return (self.rows.ctypes.data, *((index, None) if self.index.ndim == 1 else (None, index)))


class FusedEmbedding(nn.Module):
    """Same signature as ``EmbeddingTables``; reads the tables in place (fp32) or a bfloat16 copy of them.

    hot: by table, the rows that are read from elsewhere (fp32 only).
    """

    def __init__(
        self, reference: EmbeddingTables, bf16: bool, threads: int, hot: Mapping[str, HotTable] | None = None
    ) -> None:
        super().__init__()
        schema = reference.schema
        dtype = torch.bfloat16 if bf16 else torch.float32
        tables = {name: table.weight.detach().to(dtype).contiguous() for name, table in reference.tables.items()}
        fields = (*schema.ids, *schema.bags, *schema.history)
        by_field = {field.name: tables[field.table] for field in fields}
        hot = hot or {}
        hot_of = {field.name: hot[field.table] for field in fields if field.table in hot}
        self.widths = [sum(by_field[f.name].shape[1] for f in _fields(schema, side)) for side in ("user", "item")]
        self.behaviour_width = sum(by_field[field.name].shape[1] for field in schema.history)
        self.spans = merged(reference.target_spans)
        self.threads = threads
        sides = (EmbeddedSide * 3)(
            _side(schema.ids_of("user"), schema.bags_of("user"), by_field, hot_of),
            _side(schema.ids_of("item"), schema.bags_of("item"), by_field, hot_of),
            _side(schema.history, (), by_field, hot_of),
        )
        library = load_kernels()
        self._run = library.recarena_embedding_run
        self._handle = Handle(library, "embedding", (sides, int(bf16)), keep=(tables, hot))
        self._local = _Scratch(3 * LOOKUP_WORDS + HISTORY_WORDS)

    def forward(self, features: Features) -> Embedded:
        """Vectors of both sides, of the targets and of the behaviours."""
        rows = features.history
        users, steps, _ = rows.shape
        user = torch.empty((features.user.rows.shape[0], self.widths[0]))
        item = torch.empty((features.item.rows.shape[0], self.widths[1]))
        history = torch.empty((users, steps, self.behaviour_width))
        summed = torch.empty((users, self.behaviour_width))
        local = self._local
        local.words[:] = (
            *_lookup(features.user, user),
            *_lookup(features.item, item),
            *(rows.data_ptr(), 0, 0, users * steps, history.data_ptr()),
            *(features.lengths.data_ptr(), steps, summed.data_ptr()),
        )
        self._run(self._handle.pointer, local.pointer, local.pointer + 3 * LOOKUP_WORDS * 8, self.threads)
        parts = [item[:, first:last] for first, last in self.spans]
        target = parts[0] if len(parts) == 1 else torch.cat(parts, 1) if parts else item[:, :0]
        return Embedded(user, item, target, history, summed)

    def behaviours(self, rows: Tensor, threads: int) -> Tensor:
        """Concatenated vectors [..., W] of behaviours given as table rows [..., H]; in fp32."""
        rows = rows.contiguous()
        out = torch.empty((*rows.shape[:-1], self.behaviour_width))
        pointers = (rows.data_ptr(), rows.shape[:-1].numel(), out.data_ptr())
        load_kernels().recarena_embedding_behaviours(self._handle.pointer, *pointers, threads)
        return out


class FusedWide(nn.Module):
    """Same signature as ``WideTables``: all weights of a sample summed in one call."""

    def __init__(self, reference: WideTables) -> None:
        super().__init__()
        schema = reference.schema
        weights = {name: table.weight.detach() for name, table in reference.tables.items()}
        crosses = [reference.crosses[field.name].weight.detach() for field in schema.crosses]
        sides = (EmbeddedSide * 3)(
            *(_side(schema.ids_of(side), schema.bags_of(side), weights) for side in ("user", "item")),
        )
        dense = reference.dense.detach().contiguous()
        split = len(schema.dense_of("user"))
        cross_tables = (Table * len(crosses))(*(Table(w.data_ptr(), 1, 0) for w in crosses))
        arguments = (sides, dense.data_ptr(), split, len(dense) - split, cross_tables, len(crosses))
        library = load_kernels()
        self._run = library.recarena_wide_run
        self._handle = Handle(library, "wide", (*arguments, reference.bias.item()), keep=(weights, crosses))
        self._local = _Scratch(2 * LOOKUP_WORDS)

    def forward(self, features: Features) -> Tensor:
        """Logit [N]."""
        user, item = features.user, features.item
        logit = torch.empty(item.rows.shape[0])
        local = self._local
        local.words[:] = (*_lookup(user, None), *_lookup(item, None))
        user_of = 0 if features.user_of is None else features.user_of.data_ptr()
        dense = (user.dense.data_ptr(), item.dense.data_ptr())
        self._run(self._handle.pointer, local.pointer, *dense, features.crosses.data_ptr(), user_of, logit.data_ptr())
        return logit


def merged(spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Neighbouring column spans as one."""
    out: list[tuple[int, int]] = []
    for first, last in spans:
        if out and out[-1][1] == first:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return tuple(out)


def _lookup(side: SideFeatures, out: Tensor | None) -> tuple[int, int, int, int, int]:
    pointers = (side.rows.data_ptr(), side.bag_rows.data_ptr(), side.bag_offsets.data_ptr())
    return (*pointers, side.rows.shape[0], 0 if out is None else out.data_ptr())


def _fields(schema: Schema, side: SideName) -> tuple[Field, ...]:
    return (*schema.ids_of(side), *schema.bags_of(side))


def _side(
    ids: tuple[Field, ...],
    bags: tuple[BagField, ...],
    tables: Mapping[str, Tensor],
    hot: Mapping[str, HotTable] = MappingProxyType({}),
) -> EmbeddedSide:
    id_tables = (Table * len(ids))(*(_table(tables[f.name], 0, hot.get(f.name)) for f in ids))
    bag_tables = (Table * len(bags))(*(_table(tables[f.name], int(f.pooling == "mean"), hot.get(f.name)) for f in bags))
    return EmbeddedSide(len(ids), len(bags), id_tables, bag_tables)


def _table(weight: Tensor, mean: int, hot: HotTable | None) -> Table:
    elsewhere = () if hot is None else hot.addresses()
    return Table(weight.data_ptr(), weight.shape[1], mean, *elsewhere)
