"""Gradients of tables as pieces: rows, and where their vectors lie. Nothing is copied, and no sparse tensor is made.

A sparse gradient costs the framework tens of microseconds per table and use, and two of them have to be joined. Where
nobody but the fused optimizers reads a table's gradient, it is a list of pieces beside an empty ``parameter.grad``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optimizations.kernels.training_interface import RowPiece
from zoo.layers.derived import derived

KEPT = "row_pieces"


class Piece(NamedTuple):
    """Rows [n] of a table of width w, and their vectors: columns [first, first + w) of ``vectors`` [n, ...]."""

    rows: Tensor
    vectors: Tensor
    first: int = 0


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
    width = parameter.shape[1]
    rows, vectors = (
        [piece.rows for piece in found],
        [each.vectors[:, each.first : each.first + width] for each in found],
    )
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


@derived
def joined(rows: tuple[Tensor, ...]) -> Tensor:
    """Lists of rows [n], one after another."""
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def described(pieces: Iterable[Piece]) -> ctypes.Array[Any]:
    """For the kernels; valid as long as the pieces."""
    found = [
        (
            *(rows.data_ptr(), vectors.data_ptr() + 4 * first),
            *(rows.stride(0), vectors.stride(0), len(rows)),
        )
        for rows, vectors, first in pieces
    ]
    return (RowPiece * len(found))(*found)
