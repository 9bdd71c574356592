"""The fused features block: one native call from raw columns to table rows and normalised numbers."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from ctypes import c_int64

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimizations.kernels.interface import BUCKET, HASHED, PLAIN, Column, Cross, Dense, FeaturesCall, Handle, Side
from optimizations.kernels.loader import load_kernels
from zoo.layers.features import bucket_rows
from zoo.layers.tensors import Features, RawTensors, SideFeatures, SideTensors
from zoo.schema import BagField, Batch, HistoryField, IdField, Schema
from zoo.schema import Side as SideName

FIRST_BUCKET = 3
LARGEST_FLOAT_BITS = 0x7F7FFFFF


def bucket_thresholds(rows: int) -> npt.NDArray[np.float32]:
    """Smallest float32 of each bucket from the fourth on, by bisection of ``zoo.layers.features.bucket_rows`` itself.

    A positive value lies in bucket 3 + the number of thresholds that it reaches.
    """
    last = int(bucket_rows(torch.tensor([float(np.finfo(np.float32).max)]), rows)[0])
    wanted = torch.arange(FIRST_BUCKET + 1, last + 1)
    low = torch.zeros(len(wanted), dtype=torch.int32)
    high = torch.full_like(low, LARGEST_FLOAT_BITS)
    while bool((low + 1 < high).any()):
        middle = low + (high - low) // 2
        reached = bucket_rows(middle.view(torch.float32), rows) >= wanted
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high.view(torch.float32).numpy()


class _Scratch(threading.local):
    """Per thread: the argument block of the call, written anew each time, and two pairs of answers."""

    def __init__(self) -> None:
        self.call = (c_int64 * (ctypes.sizeof(FeaturesCall) // 8))()
        self.call_pointer = ctypes.addressof(self.call)
        self.sizes = (c_int64 * 2)()
        self.sizes_pointer = ctypes.addressof(self.sizes)
        self.fault = (c_int64 * 2)()
        self.fault_pointer = ctypes.addressof(self.fault)


class FusedFeatures(nn.Module):
    """Same signature as ``FeatureTransform``. ``expand_first``: copy the user side per sample on the way."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.expand_first = False
        self.history_width, self.crosses = len(schema.history), len(schema.crosses)
        self.bags, self.ids, self.dense = zip(
            *((len(schema.bags_of(s)), len(schema.ids_of(s)), len(schema.dense_of(s))) for s in ("user", "item")),
            strict=True,
        )
        self.raw_dense, self.raw_ids = zip(*(_raw_columns(schema, s) for s in ("user", "item")), strict=True)
        self.fields = [
            *((f.name, f.rows) for s in ("user", "item") for f in (*schema.ids_of(s), *schema.bags_of(s))),
            *((f.name, f.rows) for f in schema.history),
        ]
        library = load_kernels()
        self._run, self._sizes = library.recarena_features_run, library.recarena_features_sizes
        thresholds: list[npt.NDArray[np.float32]] = []
        self._handle = Handle(library, "features", _description(schema, thresholds))
        self._local = _Scratch()

    def forward(self, raw: RawTensors) -> Features:
        """Engineered columns.

        Raises IndexError for a raw id outside the table of a field that is not hashed, ValueError for a batch of other
        columns than the schema's.
        """
        self.check_columns(raw)
        raw = _contiguous(raw)
        user_of = raw.user_of
        index = user_of if self.expand_first else None
        samples = raw.item.dense.shape[0]
        users = raw.user.dense.shape[0] if index is None else samples
        pointer = 0 if index is None else index.data_ptr()
        steps, bag_values = self._measure(raw, pointer, users)
        kept = None if index is not None else user_of
        user, user_words = self._side(0, raw.user, pointer, users, bag_values)
        item, item_words = self._side(1, raw.item, 0, samples, raw.item.bag_values.shape[0])
        padded = torch.empty((users, steps, self.history_width), dtype=torch.int64)
        lengths = torch.empty(users, dtype=torch.int64)
        crosses = torch.empty((samples, self.crosses), dtype=torch.int64)
        words = (
            raw.history.data_ptr(),
            raw.history_offsets.data_ptr(),
            pointer,
            0 if kept is None else kept.data_ptr(),
        )
        words += (users, steps, samples, padded.data_ptr(), lengths.data_ptr(), crosses.data_ptr())
        local = self._local
        local.call[:] = (*user_words, *item_words, *words, local.fault_pointer)
        if self._run(self._handle.pointer, local.call_pointer):
            raise self._refused(local.fault[0], local.fault[1])
        return Features(user, item, padded, lengths, crosses, kept)

    def check_columns(self, raw: RawTensors | Batch) -> None:
        """The kernels would read past the end of rows that lack columns. Raises ValueError for such a batch."""
        wrong = self.history_width not in (0, raw.history.shape[1])
        for side, rows in enumerate((raw.user, raw.item)):
            if count := rows.dense.shape[0]:
                wrong |= rows.dense.shape[1] < self.raw_dense[side] or rows.ids.shape[1] < self.raw_ids[side]
                wrong |= self.bags[side] > 0 and rows.bag_offsets.shape[0] != count * self.bags[side] + 1
        if wrong:
            raise ValueError("the batch has other columns than the schema that the model was built for")

    def _refused(self, field: int, raw: int) -> IndexError:
        name, rows = self.fields[field]
        return IndexError(f"field {name!r} got the raw id {raw}; ids of its table lie in [0, {rows}) (or are -1)")

    def _measure(self, raw: RawTensors, index: int, users: int) -> tuple[int, int]:
        """Steps of the padded history and bag values of the user side."""
        local = self._local
        bags, offsets = self.bags[0], raw.user.bag_offsets
        self._sizes(index, users, raw.history_offsets.data_ptr(), offsets.data_ptr(), bags, local.sizes_pointer)
        return local.sizes[0], local.sizes[1]

    def _side(
        self, side: int, raw: SideTensors, index: int, count: int, bag_values: int
    ) -> tuple[SideFeatures, tuple[int, ...]]:
        out = SideFeatures(
            torch.empty((count, self.dense[side])),
            torch.empty((count, self.ids[side]), dtype=torch.int64),
            torch.empty(bag_values, dtype=torch.int64) if self.bags[side] else raw.bag_values,
            torch.empty(count * self.bags[side] + 1, dtype=torch.int64) if index else raw.bag_offsets,
        )
        words = (raw.dense.data_ptr(), raw.ids.data_ptr(), raw.bag_values.data_ptr(), raw.bag_offsets.data_ptr(), index)
        words += (raw.dense.shape[1], raw.ids.shape[1], count, out.dense.data_ptr(), out.rows.data_ptr())
        return out, (*words, out.bag_rows.data_ptr(), out.bag_offsets.data_ptr())


def _contiguous(raw: RawTensors) -> RawTensors:
    """The same tensors, or copies of those that do not lie side by side: to be kept until the kernels have run."""
    user, item = (SideTensors(*(each.contiguous() for each in side)) for side in (raw.user, raw.item))
    user_of = None if raw.user_of is None else raw.user_of.contiguous()
    return RawTensors(user, item, raw.history.contiguous(), raw.history_offsets.contiguous(), user_of)


def _raw_columns(schema: Schema, side: SideName) -> tuple[int, int]:
    """Dense columns and id columns that a side's rows must have."""
    fields = schema.ids_of(side)
    dense = [len(schema.dense_of(side)), *(field.column + 1 for field in fields if field.source == "bucket")]
    return max(dense), max((field.column + 1 for field in fields if field.source == "id"), default=0)


def _description(schema: Schema, keep: list[npt.NDArray[np.float32]]) -> tuple[object, ...]:
    """Arguments of ``recarena_features_new``, which copies what they point to. ``keep`` gets what ctypes would not."""
    sides = (Side * 2)(_side(schema, "user", keep), _side(schema, "item", keep))
    history = _columns(schema.history, keep)
    places = {f.name: (s, k) for s, side in enumerate(("user", "item")) for k, f in enumerate(schema.ids_of(side))}
    crosses = (Cross * len(schema.crosses))(
        *(Cross(*places[field.left], *places[field.right], field.rows) for field in schema.crosses)
    )
    return sides, history, len(schema.history), crosses, len(schema.crosses)


def _side(schema: Schema, side: SideName, keep: list[npt.NDArray[np.float32]]) -> Side:
    dense, ids, bags = schema.dense_of(side), schema.ids_of(side), schema.bags_of(side)
    columns = (Dense * len(dense))(*(Dense(f.mean, f.std, int(f.transform == "log")) for f in dense))
    return Side(len(dense), len(ids), len(bags), columns, _columns(ids, keep), _columns(bags, keep))


def _columns(
    fields: Sequence[IdField | BagField | HistoryField], keep: list[npt.NDArray[np.float32]]
) -> ctypes.Array[Column]:
    return (Column * len(fields))(*(_column(field, keep) for field in fields))


def _column(field: IdField | BagField | HistoryField, keep: list[npt.NDArray[np.float32]]) -> Column:
    column = getattr(field, "column", 0)
    if isinstance(field, IdField) and field.source == "bucket":
        keep.append(bucket_thresholds(field.rows))
        return Column(BUCKET, field.rows, column, len(keep[-1]), keep[-1].ctypes.data)
    return Column(HASHED if field.hashed else PLAIN, field.rows, column, 0, None)
