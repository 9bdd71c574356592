"""The fused blocks of a model as one native program: a query costs one call, and the interpreter is out of its way."""

from __future__ import annotations

import ctypes
from ctypes import c_int64
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizations.fusion.program_tracer import ProgramTracer
from optimizations.kernels.interface import Handle
from optimizations.kernels.loader import load_kernels
from zoo.schema import Batch, Rows

QUERY_WORDS = 19


class NativeProgram:
    """A model whose every block is fused. Keeps the model, whose blocks' handles it calls; holds no other state."""

    def __init__(self, model: Any, threads: int) -> None:
        """Raises LoweringError for a block that is not fused, or for glue between blocks that has no description."""
        library = load_kernels()
        self._model, self._threads = model, threads
        tracer = ProgramTracer(model)
        self._run = library.recarena_program_run
        self._handle = Handle(library, "program", (ctypes.byref(tracer.program()),))
        self._fields = model.features.fields

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Click probabilities [N]. Raises IndexError for a raw id outside the table of a field that is not hashed."""
        scores = np.empty(len(batch), np.float32)
        fault = (c_int64 * 2)()
        arrays = [*_arrays(batch.user), *_arrays(batch.item)]
        arrays += [_plain(a, np.int64) for a in (batch.history, batch.history_offsets, batch.user_of)]
        pointers = [array.ctypes.data for array in arrays]
        words = (c_int64 * QUERY_WORDS)(
            *(len(batch.history_offsets) - 1, len(scores)),
            *(*pointers[0:4], batch.user.dense.shape[1], batch.user.ids.shape[1]),
            *(*pointers[4:8], batch.item.dense.shape[1], batch.item.ids.shape[1]),
            *(*pointers[8:], scores.ctypes.data, 0),
        )
        words[QUERY_WORDS - 1] = ctypes.addressof(fault)
        if self._run(self._handle.pointer, ctypes.addressof(words), self._threads):
            name, rows = self._fields[fault[0]]
            raise IndexError(
                f"field {name!r} got the raw id {fault[1]}; ids of its table lie in [0, {rows}) (or are -1)"
            )
        return scores


def _arrays(rows: Rows) -> list[npt.NDArray[Any]]:
    return [
        _plain(rows.dense, np.float32),
        *(_plain(array, np.int64) for array in (rows.ids, rows.bag_values, rows.bag_offsets)),
    ]


def _plain(array: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    return array if array.dtype == dtype and array.flags.c_contiguous else np.ascontiguousarray(array, dtype)
