"""The C interface of the kernels that only a training calls: structures and signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int64, c_long, c_void_p
from typing import Any


class DenseLayer(Structure):
    """One fully connected layer in training (trained_layer.h)."""

    _fields_ = [*((name, c_void_p) for name in ("weight", "bias")), ("outputs", c_int64), ("inputs", c_int64)]


class Recurrence(Structure):
    """A recurrent layer in training (trained_recurrence.h)."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "attention", "lengths")),
        *((name, c_int64) for name in ("samples", "steps", "width", "hidden")),
        *((name, DenseLayer) for name in ("of_input", "of_state")),
        *((name, c_void_p) for name in ("kept", "states", "last")),
    ]


class RecurrenceGradients(Structure):
    """Its gradients (trained_recurrence.h)."""

    _fields_ = [
        *((name, c_void_p) for name in ("states", "last", "x", "attention")),
        *((name, c_void_p) for name in ("input_weight", "input_bias", "state_weight", "state_bias")),
    ]


class DenseCall(Structure):
    """A fully connected layer in training (trained_dense.cpp)."""

    _fields_ = [
        *(("x", c_void_p), ("rows", c_int64), ("layer", DenseLayer)),
        *(("relu", c_int64), ("y", c_void_p)),
    ]


class Auxiliary(Structure):
    """The auxiliary loss of DIEN (auxiliary.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("states", "history", "sampled", "places")),
        *((name, c_int64) for name in ("pairs", "hidden", "width", "layer_count")),
        ("layers", c_void_p),
    ]


class AuxiliaryGradients(Structure):
    """Its gradients (auxiliary.cpp)."""

    _fields_ = [*((name, c_void_p) for name in ("states", "history", "sampled", "parameters")), ("rows", c_int64)]


class Rating(Structure):
    """An activation unit in training (trained_attention.h)."""

    _fields_ = [
        *((name, c_void_p) for name in ("base", "query", "keys", "lengths")),
        *((name, c_int64) for name in ("samples", "steps", "width", "first_units")),
        *((name, c_void_p) for name in ("key_weight", "product_weight")),
        *((name, c_int64) for name in ("layer_count", "softmax", "dice")),
        *((name, c_void_p) for name in ("layers", "alpha", "out", "units", "ratings", "mean", "inverse", "squares")),
    ]


class RatingGradients(Structure):
    """Its gradients (trained_attention.h)."""

    _fields_ = [
        (name, c_void_p)
        for name in ("out", "base", "query", "keys", "key_weight", "product_weight", "parameters", "alpha")
    ]


class DiceCall(Structure):
    """Dice of a batch (dice_layer.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "alpha")),
        *((name, c_int64) for name in ("rows", "columns")),
        *((name, c_void_p) for name in ("mean", "inverse", "squares")),
    ]


class DenseStep(Structure):
    """One dense parameter, its gradient and Adam's averages (adam.cpp)."""

    _fields_ = [
        ("gradient", c_void_p),
        ("count", c_int64),
        *((name, c_void_p) for name in ("weights", "mean", "square", "steps")),
    ]


class AdamRates(Structure):
    """What Adam is set to (adam.cpp)."""

    _fields_ = [(name, c_double) for name in ("rate", "beta1", "beta2", "eps")]


class RowPiece(Structure):
    """Some rows of a table's gradient and their vectors (row_optimizers.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("rows", "vectors")),
        *((name, c_int64) for name in ("row_stride", "vector_stride", "count")),
        *((name, c_void_p) for name in ("of", "offsets")),
        ("bags", c_int64),
    ]


class RowStep(Structure):
    """One table, its gradient and its optimizer's state (row_optimizers.cpp)."""

    _fields_ = [
        *((name, c_int64) for name in ("first_piece", "count", "width")),
        *((name, c_void_p) for name in ("weights", "first", "second", "order", "starts")),
        ("groups", c_int64),
    ]


class RowList(Structure):
    """Rows of a gradient that are to be sorted, and where their order goes (row_optimizers.cpp)."""

    _fields_ = [
        *((name, c_int64) for name in ("first_piece", "piece_count", "count", "table_rows")),
        *((name, c_void_p) for name in ("order", "starts")),
        ("groups", c_int64),
    ]


_P, _L, _I, _Q = c_void_p, c_long, c_int, c_int64
TRAINING_SIGNATURES: Mapping[str, tuple[Any, Sequence[Any]]] = {
    "recarena_recurrence_forward": (None, (POINTER(Recurrence), _I)),
    "recarena_recurrence_backward": (None, (POINTER(Recurrence), POINTER(RecurrenceGradients), _I)),
    "recarena_real_steps": (_Q, (_P, _Q, _Q)),
    "recarena_lanes": (_L, ()),
    "recarena_dense_forward": (None, (POINTER(DenseCall), _I)),
    "recarena_dense_backward": (None, (POINTER(DenseCall), _P, _P, _P, _P, _I)),
    "recarena_auxiliary": (c_float, (POINTER(Auxiliary), POINTER(AuxiliaryGradients), _I)),
    "recarena_rating_forward": (None, (POINTER(Rating), _I)),
    "recarena_rating_backward": (None, (POINTER(Rating), POINTER(RatingGradients), _I)),
    "recarena_dice_forward": (None, (POINTER(DiceCall), _P, _I)),
    "recarena_dice_backward": (None, (POINTER(DiceCall), _P, _P, _P, _I)),
    "recarena_adam": (None, (POINTER(DenseStep), _Q, POINTER(AdamRates), _I)),
    "recarena_sort_rows": (None, (POINTER(RowList), _Q, POINTER(RowPiece), _I)),
    "recarena_adagrad": (None, (POINTER(RowStep), _Q, POINTER(RowPiece), c_float, c_float, c_float, _I)),
    "recarena_ftrl": (None, (POINTER(RowStep), _Q, POINTER(RowPiece), c_float, c_float, c_float, c_float, _I)),
    "recarena_interaction_back": (None, (_P, _P, _L, _L, _L, _L, _P, _I)),
    "recarena_rows_take": (None, (_P, _P, _Q, _Q, _P, _I)),
    "recarena_rows_put": (None, (_P, _P, _Q, _Q, _P, _Q, _I)),
    "recarena_rows_real": (_Q, (_P, _P, _Q, _Q, _Q, _Q, _P, _P)),
    "recarena_features_behaviours": (_I, (_P, _P, _P, _Q, _Q, _P, _P)),
    "recarena_embedding_behaviours": (None, (_P, _P, _Q, _P, _I)),
    "recarena_bag_entries": (None, (_P, _P, _Q, _Q, _P, _P, POINTER(_Q))),
    "recarena_rows_pack": (None, (_P, _P, _P, _Q, _Q, _Q, _P, _I)),
    "recarena_rows_sum": (None, (_P, _P, _Q, _Q, _P, _I)),
}
"""Result and argument types of every function, by its name."""
