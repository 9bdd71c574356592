"""The fused blocks of a model as one native program: a query costs one call, and the interpreter is out of its way."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from ctypes import c_int64
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizations.fusion.program_tracer import ProgramTracer
from optimizations.kernels.interface import Binding, Handle
from optimizations.kernels.loader import load_kernels
from zoo.schema import Batch, Rows

QUERY_WORDS = 19


class NativeProgram:
    """A model whose every block is fused. Keeps the model, whose blocks' handles it calls; holds no other state but the
    schedules that it was given. built: what is to be said of them, as JSON values."""

    def __init__(self, model: Any, threads: int) -> None:
        """Raises LoweringError for a block that is not fused, or for glue between blocks that has no description."""
        library = load_kernels()
        self._model, self._threads = model, threads
        tracer = ProgramTracer(model)
        self._run, self._score = library.recarena_program_run, library.recarena_program_score
        self._handle = Handle(library, "program", (ctypes.byref(tracer.program()),))
        self._fields = model.features.fields
        self.operators = tracer.operators()
        self.built: dict[str, Any] = {}

    def bind(self, payload: memoryview, scores: memoryview) -> Callable[[int], int]:
        """What scores the payloads that will lie at the start of ``payload``: called with the size of one in bytes, it
        writes N float32 to the start of ``scores`` and returns N. It copies and allocates nothing.

        A negative number says that there are no scores: the payload is malformed, is not of this model's columns, has
        an id outside its table, or has more samples than ``scores`` has room for.
        """
        block = Binding(
            *(self._handle.pointer, _address(payload), payload.nbytes),
            *(_address(scores), scores.nbytes // np.dtype(np.float32).itemsize, self._threads),
        )
        block.keep = (self, payload, scores)
        return functools.partial(self._score, ctypes.byref(block))

    def __call__(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Click probabilities [N].

        Raises IndexError for a raw id outside the table of a field that is not hashed, ValueError for a batch of other
        columns than the model's.
        """
        scores = np.empty(len(batch), np.float32)
        self._answer(batch, scores, lambda query: self._run(self._handle.pointer, query, self._threads))
        return scores

    def operator_ns(self, batch: Batch, threads: int) -> npt.NDArray[np.int64]:
        """Time of every operator of one call, in order, each on so many threads: the feature engineering, those that
        ``operators`` number, the scores. Raises as a call does."""
        taken = np.zeros(self.operators[-1].number + 2, np.int64)
        time = load_kernels().recarena_program_time
        scores = np.empty(len(batch), np.float32)
        self._answer(batch, scores, lambda query: time(self._handle.pointer, query, threads, taken.ctypes.data))
        return taken

    def schedule(self, samples: int, threads: int, tasks: Sequence[tuple[tuple[int, ...], int]]) -> None:
        """How queries run that have up to ``samples`` samples, and more than those of earlier calls; before any query.

        tasks: (numbers of operators, bits of the tasks before it), each behind those; without tasks all operators run
        in order, each on ``threads`` threads.
        """
        operators = [number for numbers, _ in tasks for number in numbers]
        ends = np.cumsum([len(numbers) for numbers, _ in tasks], dtype=np.int64)
        rows = [(end - len(numbers), len(numbers), before) for end, (numbers, before) in zip(ends, tasks, strict=True)]
        flat = (c_int64 * (3 * len(rows)))(*(int(word) for row in rows for word in row))
        load_kernels().recarena_program_schedule(
            self._handle.pointer, samples, threads, flat, len(rows), (c_int64 * len(operators))(*operators)
        )

    def _answer(self, batch: Batch, scores: npt.NDArray[np.float32], run: Callable[[int], int]) -> None:
        """``run`` the query at the address that it is given."""
        self._model.features.check_columns(batch)
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
        if run(ctypes.addressof(words)):
            name, rows = self._fields[fault[0]]
            raise IndexError(
                f"field {name!r} got the raw id {fault[1]}; ids of its table lie in [0, {rows}) (or are -1)"
            )


def _address(memory: memoryview) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


def _arrays(rows: Rows) -> list[npt.NDArray[Any]]:
    return [
        _plain(rows.dense, np.float32),
        *(_plain(array, np.int64) for array in (rows.ids, rows.bag_values, rows.bag_offsets)),
    ]


def _plain(array: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    return array if array.dtype == dtype and array.flags.c_contiguous else np.ascontiguousarray(array, dtype)
