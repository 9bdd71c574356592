"""Gradients of tables as pieces: rows, and where their vectors lie. Nothing is copied, and no sparse tensor is made.

A sparse gradient costs the framework tens of microseconds per table and use, and two of them have to be joined. Where
nobody but the fused optimizers reads a table's gradient, it is a list of pieces beside an empty ``parameter.grad``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optimizations.kernels.loader import load_kernels
from optimizations.kernels.training_interface import RowPiece
from zoo.layers.derived import derived

KEPT = "row_pieces"


class Bag(NamedTuple):
    """What a bag's values share one vector by.

    of: for each value [n], which of the vectors is its bag's. offsets [R * bags + 1]: where the bags begin, of which
    this is the ``number``-th of each row, if its values share the vector out among them, as those of a mean do.
    """

    of: Tensor
    offsets: Tensor | None
    number: int
    bags: int


class Piece(NamedTuple):
    """Rows of a table of width w, column ``column`` of ``rows`` [n, F] or [n], and their vectors: columns
    [first, first + w) of ``vectors`` [R, ...], whose columns lie side by side; the k-th row has the k-th of them, or
    that of its ``bag``."""

    rows: Tensor
    column: int
    vectors: Tensor
    first: int = 0
    bag: Bag | None = None


def keep_pieces(parameter: nn.Parameter) -> None:
    """From now on the gradients of this table are kept as pieces."""
    setattr(parameter, KEPT, [])


def pieces_of(parameter: nn.Parameter) -> list[Piece] | None:
    """The pieces of a table's gradient; None for a parameter whose gradient the framework keeps."""
    found: list[Piece] | None = getattr(parameter, KEPT, None)
    return found


def forget_pieces(parameters: Iterable[nn.Parameter]) -> None:
    """Of the step before."""
    for parameter in parameters:
        kept = pieces_of(parameter)
        if kept:
            kept.clear()


def add_pieces(parameter: nn.Parameter, found: Sequence[Piece]) -> None:
    """Lay pieces beside those that the table's gradient has; as a sparse tensor, where the framework keeps it."""
    kept = pieces_of(parameter)
    if kept is not None:
        kept.extend(found)
        return
    rows = [column_of(piece.rows, piece.column) for piece in found]
    vectors = [_vectors(piece, parameter.shape[1]) for piece in found]
    if parameter.grad is not None:
        before = parameter.grad
        if not before.is_sparse:
            raise TypeError("a table whose gradient is dense cannot be trained by rows")
        rows.insert(0, before._indices()[0])
        vectors.insert(0, before._values())
    values = torch.cat(vectors) if len(vectors) > 1 else vectors[0]
    parameter.grad = torch.sparse_coo_tensor(
        joined(tuple(rows)).unsqueeze(0), values, parameter.shape, check_invariants=False
    )


def _vectors(piece: Piece, width: int) -> Tensor:
    """[n, width]."""
    vectors = piece.vectors[:, piece.first : piece.first + width]
    if piece.bag is None:
        return vectors
    of, offsets, number, bags = piece.bag
    if offsets is not None:
        lengths = offsets[number + 1 :: bags] - offsets[number:-1:bags]
        vectors = vectors / lengths.clamp(min=1).unsqueeze(1)
    return vectors.index_select(0, of)


@derived
def column_of(rows: Tensor, column: int) -> Tensor:
    """A column [n] of rows [n, F], or rows [n] themselves."""
    return rows if rows.dim() == 1 else rows[:, column]


@derived
def joined(rows: tuple[Tensor, ...]) -> Tensor:
    """Lists of rows [n], one after another."""
    return torch.cat(rows) if len(rows) > 1 else rows[0]


@derived
def bag_entries(values: Tensor, offsets: Tensor, bags: int) -> list[tuple[Tensor, Tensor]]:
    """Of each of ``bags`` bag columns that lie interleaved, its values [n] and the row of each [n]; values [total],
    offsets [R * bags + 1]."""
    values, offsets = values.contiguous(), offsets.contiguous()
    out, of, bounds = torch.empty_like(values), torch.empty_like(values), (ctypes.c_int64 * (bags + 1))()
    pointers = (values.data_ptr(), offsets.data_ptr(), (len(offsets) - 1) // bags, bags)
    load_kernels().recarena_bag_entries(*pointers, out.data_ptr(), of.data_ptr(), bounds)
    return [(out[first:end], of[first:end]) for first, end in pairwise(bounds)]


def in_rows(vectors: Tensor) -> Tensor:
    """The same vectors [R, ...] with their columns side by side."""
    return vectors if vectors.stride(1) == 1 or vectors.shape[1] == 1 else vectors.contiguous()


def described(pieces: Iterable[Piece]) -> ctypes.Array[Any]:
    """For the kernels; valid as long as the pieces."""
    places = Places()
    found = [_described(piece, places) for piece in pieces]
    return (RowPiece * len(found))(*found)


def _described(piece: Piece, places: Places) -> tuple[int, ...]:
    rows, of_rows, apart, count = places.of(piece.rows)
    vectors, of_vectors, _, _ = places.of(piece.vectors)
    by_place = (rows + 8 * apart * piece.column, vectors + 4 * piece.first, of_rows, of_vectors, count)
    if piece.bag is None:
        return (*by_place, 0, 0, 0)
    of, offsets, number, bags = piece.bag
    begins = 0 if offsets is None else places.of(offsets)[0] + 8 * number
    return (*by_place, places.of(of)[0], begins, bags)


class Places:
    """Where tensors lie, each asked once: the framework answers slowly, and pieces share their tensors."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int, int, int]] = {}

    def of(self, tensor: Tensor) -> tuple[int, int, int, int]:
        """Address, strides of the first two axes in elements (1 for one that is missing), and length."""
        found = self._known.get(id(tensor))
        if found is None:
            strides, count = (*tensor.stride(), 1), tensor.shape[0]
            found = self._known[id(tensor)] = (tensor.data_ptr(), strides[0], strides[1], count)
        return found
