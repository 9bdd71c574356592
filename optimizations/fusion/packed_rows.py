"""Differentiable rows: taken by an index in which none stands twice, and repeated. Native, in fp32 on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from optimizations.kernels.loader import load_kernels
from zoo.layers.derived import derived


class TakeRows(torch.autograd.Function):
    """``x[index]`` of rows [R, w], for an index [n] in which no row stands twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:  # type: ignore[override]
        """[n, w]."""
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return taken(x, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """[R, w], zero where nothing was taken."""
        (index,) = ctx.saved_tensors
        return put(gradient, index, ctx.rows), None


class RepeatRows(torch.autograd.Function):
    """Row r of [R, w] ``counts[r]`` times, in order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Tensor) -> Tensor:  # type: ignore[override]
        """[sum of counts, w]."""
        ctx.save_for_backward(counts)
        return x.repeat_interleave(counts, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """[R, w]: what the copies of a row got, together."""
        (counts,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        out = gradient.new_empty(len(counts), gradient.shape[1])
        pointers = (gradient.data_ptr(), starts.data_ptr())
        load_kernels().recarena_rows_sum(*pointers, len(counts), out.shape[1], out.data_ptr(), torch.get_num_threads())
        return out, None


def taken(x: Tensor, index: Tensor) -> Tensor:
    """``x[index]``."""
    x = x.contiguous()
    out = x.new_empty(len(index), x.shape[1])
    pointers = (x.data_ptr(), index.data_ptr())
    load_kernels().recarena_rows_take(*pointers, len(index), out.shape[1], out.data_ptr(), torch.get_num_threads())
    return out


def put(x: Tensor, index: Tensor, rows: int) -> Tensor:
    """Zeros [rows, w] with ``x`` at ``index``."""
    x = x.contiguous()
    out = x.new_empty(rows, x.shape[1])
    pointers = (x.data_ptr(), index.data_ptr())
    load_kernels().recarena_rows_put(*pointers, len(index), out.shape[1], out.data_ptr(), rows, torch.get_num_threads())
    return out


def packed_steps(x: Tensor, each: Tensor, lengths: Tensor, rows: int) -> Tensor:
    """The real steps of ``x`` [R, T, w], one after another, with the row's own of ``each`` [R, w] added; behind them
    zeros, up to ``rows``."""
    x, each, starts = x.contiguous(), each.contiguous(), row_starts(lengths)
    out = x.new_empty(rows, x.shape[2])
    pointers = (x.data_ptr(), each.data_ptr(), starts.data_ptr())
    load_kernels().recarena_rows_pack(*pointers, *x.shape, out.data_ptr(), torch.get_num_threads())
    out[real_count(lengths) :].zero_()
    return out


@derived
def row_starts(lengths: Tensor) -> Tensor:
    """Where each of R rows of ``lengths`` [R] begins in all of them, and the end: [R + 1]."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))


@derived
def real_count(lengths: Tensor) -> int:
    """Real steps of all rows of ``lengths`` [R]."""
    return int(lengths.sum())


@derived
def steps_within(lengths: Tensor, steps: int) -> int:
    """``real_count`` of rows that have room for ``steps`` each. Raises ValueError where one is longer."""
    lengths = lengths.contiguous()
    real = int(load_kernels().recarena_real_steps(lengths.data_ptr(), len(lengths), steps))
    if real < 0:
        raise ValueError(f"a row has more than {steps} steps")
    return real


def rows_of_steps(padded: Tensor, lengths: Tensor, skip: int, more: int) -> tuple[Tensor, Tensor]:
    """Table rows [n, H] of all real steps from step ``skip`` on of ``padded`` [R, T, H], one after another, ``more``
    of zeros behind them; and of each, row times T plus the step ``skip`` before it [n]."""
    padded, lengths = padded.contiguous(), lengths.contiguous()
    room = real_count(lengths)
    rows, places = padded.new_empty(room + more, padded.shape[2]), padded.new_empty(room)
    pointers = (padded.data_ptr(), lengths.data_ptr())
    filled = (rows.data_ptr(), places.data_ptr())
    count = load_kernels().recarena_rows_real(*pointers, *padded.shape, skip, *filled)
    rows[count : count + more].zero_()
    return rows[: count + more], places[:count]
