"""The C interface of the kernels: structures, signatures, and the lifetime of what they allocate."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_long, c_void_p
from typing import Any

from optimizations.kernels.training_interface import TRAINING_SIGNATURES

FP32, BF16, TF32, INT8 = 0, 1, 2, 3
PRECISIONS = {"fp32": FP32, "bf16": BF16, "tf32": TF32, "int8": INT8}
PLAIN, HASHED, BUCKET = 0, 1, 2
USERS, SAMPLES, BEHAVIOURS = 0, 1, 2
COLUMNS, FC, FC_SPLIT, INTERACTION, GRU, ATTENTION, AUGRU = range(7)
STEPS = 5
OPERATORS = ("columns", "fc", "fc", "interaction", "gru", "attention", "augru")
USER, ITEM, HISTORY, SUMMED, USER_DENSE, ITEM_DENSE, WIDE = range(7)
ACTIVATIONS = {"none": 0, "relu": 1, "sigmoid": 2, "prelu": 3, "dice": 4}


class Column(Structure):
    """One categorical column (rows.h)."""

    _fields_ = [
        ("kind", c_int64),
        ("rows", c_int64),
        ("column", c_int64),
        ("threshold_count", c_int64),
        ("thresholds", c_void_p),
    ]


class Dense(Structure):
    """One dense column (features.cpp)."""

    _fields_ = [("mean", c_float), ("std", c_float), ("log", c_int32)]


class Side(Structure):
    """Columns of one side (features.cpp)."""

    _fields_ = [
        ("dense_count", c_int64),
        ("id_count", c_int64),
        ("bag_count", c_int64),
        ("dense", POINTER(Dense)),
        ("ids", POINTER(Column)),
        ("bags", POINTER(Column)),
    ]


class Cross(Structure):
    """A hashed cross (features.cpp)."""

    _fields_ = [(name, c_int64) for name in ("left_side", "left", "right_side", "right", "rows")]


class SideCall(Structure):
    """Raw and engineered columns of one side in one call (features.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("dense", "ids", "bag_values", "bag_offsets", "index")),
        *((name, c_int64) for name in ("dense_stride", "id_stride", "count")),
        *((name, c_void_p) for name in ("dense_out", "rows_out", "bag_rows_out", "bag_offsets_out")),
    ]


class FeaturesCall(Structure):
    """One call of the feature engineering (features.cpp)."""

    _fields_ = [
        ("sides", SideCall * 2),
        *((name, c_void_p) for name in ("history", "history_offsets", "history_index", "user_of")),
        *((name, c_int64) for name in ("history_rows", "steps", "samples")),
        *((name, c_void_p) for name in ("history_out", "lengths_out", "crosses_out", "fault")),
    ]


class Table(Structure):
    """An embedding table as one field reads it (embedding.cpp)."""

    _fields_ = [
        *(("rows", c_void_p), ("width", c_int64), ("mean", c_int64)),
        *((name, c_void_p) for name in ("hot", "places", "marks")),
    ]


class EmbeddedSide(Structure):
    """Fields of one side in output order (embedding.cpp)."""

    _fields_ = [
        ("id_count", c_int64),
        ("bag_count", c_int64),
        ("ids", POINTER(Table)),
        ("bags", POINTER(Table)),
    ]


class Lookup(Structure):
    """Rows to look up on one side (embedding.cpp)."""

    _fields_ = [
        ("rows", c_void_p),
        ("bag_rows", c_void_p),
        ("bag_offsets", c_void_p),
        ("count", c_int64),
        ("out", c_void_p),
    ]


class History(Structure):
    """Real steps and where their sum goes (embedding.cpp)."""

    _fields_ = [("lengths", c_void_p), ("steps", c_int64), ("summed", c_void_p)]


class Layer(Structure):
    """One fully connected layer (attention.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("weight", "bias", "slope", "scale", "shift")),
        ("outputs", c_long),
        ("inputs", c_long),
        ("kind", c_int),
    ]


class Quantizer(Structure):
    """Scales of a layer of integers: per output and per input; empty for a layer of floats (fc.cpp)."""

    _fields_ = [("scale", c_void_p), ("inverse", c_void_p)]


class Register(Structure):
    """Floats of a program, [rows, width] (program.cpp)."""

    _fields_ = [("rows", c_int64), ("width", c_int64)]


class Part(Structure):
    """Columns of a register as a COLUMNS step reads them (program.cpp)."""

    _fields_ = [
        (name, c_int64)
        for name in ("source", "first", "width", "of_user", "mean", "factor", "factor_first", "factor_of_user")
    ]


class Step(Structure):
    """One block of a program (program.cpp)."""

    _fields_ = [
        ("kind", c_int64),
        ("handle", c_void_p),
        *((name, c_int64) for name in ("out", "a", "b", "first_part", "part_count")),
        ("sizes", c_int64 * 3),
    ]


class Program(Structure):
    """A whole model (program.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("features", "embedding", "wide")),
        *((name, c_int64 * 2) for name in ("ids", "dense", "bags", "raw_dense", "raw_ids")),
        *((name, c_int64) for name in ("history_width", "crosses", "expand_first", "logit")),
        *((name, c_int64) for name in ("register_count", "part_count", "step_count")),
        *((name, POINTER(kind)) for name, kind in (("registers", Register), ("parts", Part), ("steps", Step))),
    ]


class Binding(Structure):
    """Where payloads and their scores lie (program.cpp)."""

    _fields_ = [
        *((name, c_void_p) for name in ("program", "payload")),
        ("capacity", c_int64),
        ("scores", c_void_p),
        *((name, c_int64) for name in ("room", "threads")),
    ]


_P, _L, _I, _Q = c_void_p, c_long, c_int, c_int64
_SIGNATURES: dict[str, tuple[Any, Sequence[Any]]] = {
    "recarena_fc_new": (_P, (_P, POINTER(Quantizer), _P, _L, _L, _I, _P, _P, _P, _I)),
    "recarena_fc_run": (None, (_P, _P, _L, _P, _I)),
    "recarena_fc_free": (None, (_P,)),
    "recarena_fc_split_new": (_P, (_P, _P, POINTER(Quantizer), _P, _L, _L, _L, _I, _P, _P, _P, _I)),
    "recarena_fc_split_run": (None, (_P, _P, _L, _P, _P, _L, _P, _I)),
    "recarena_fc_split_free": (None, (_P,)),
    "recarena_interaction_run": (None, (_P, _L, _L, _L, _P, _I, _I)),
    "recarena_recurrent_new": (_P, (_P, _P, _P, _P, _L, _L, _I)),
    "recarena_recurrent_free": (None, (_P,)),
    "recarena_gru_run": (None, (_P, _P, _P, _L, _L, _P, _I)),
    "recarena_augru_run": (None, (_P, _P, _P, _P, _P, _L, _L, _L, _P, _I)),
    "recarena_use_openmp": (None, (_P,)),
    "recarena_attention_new": (_P, (POINTER(Layer), _L, POINTER(Layer), _L, _I, _I)),
    "recarena_attention_run": (None, (_P, _P, _P, _P, _P, _L, _L, _P, _I)),
    "recarena_attention_free": (None, (_P,)),
    "recarena_features_new": (_P, (POINTER(Side), POINTER(Column), _Q, POINTER(Cross), _Q)),
    "recarena_features_run": (_I, (_P, _P)),
    "recarena_features_sizes": (None, (_P, _Q, _P, _P, _Q, _P)),
    "recarena_features_free": (None, (_P,)),
    "recarena_embedding_new": (_P, (POINTER(EmbeddedSide), _I)),
    "recarena_embedding_run": (None, (_P, _P, _P, _I)),
    "recarena_embedding_free": (None, (_P,)),
    "recarena_wide_new": (_P, (POINTER(EmbeddedSide), _P, _Q, _Q, POINTER(Table), _Q, c_float)),
    "recarena_wide_run": (None, (_P, _P, _P, _P, _P, _P, _P)),
    "recarena_wide_free": (None, (_P,)),
    "recarena_program_new": (_P, (POINTER(Program),)),
    "recarena_program_run": (_I, (_P, _P, _I)),
    "recarena_program_score": (_Q, (_P, _Q)),
    "recarena_program_schedule": (None, (_P, _Q, _I, _P, _Q, _P)),
    "recarena_program_time": (_I, (_P, _P, _I, _P)),
    "recarena_program_free": (None, (_P,)),
    "recarena_payload_read": (_I, (_P, _Q, _P, _P)),
}


FREES = "_free"
"""Ends the name of every function that frees a handle."""


def declared() -> dict[str, tuple[Any, Sequence[Any]]]:
    """Result and argument types of every function, by its name."""
    return {**_SIGNATURES, **TRAINING_SIGNATURES}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Give every function of the library its argument and result types."""
    for name, (result, arguments) in declared().items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
    return library


class Handle:
    """What a ``recarena_<subject>_new`` returned; freed with this object. ``keep`` lives as long."""

    def __init__(self, library: ctypes.CDLL, subject: str, arguments: Sequence[Any], keep: object = None) -> None:
        self.pointer: int = getattr(library, f"recarena_{subject}_new")(*arguments)
        self.keep = keep
        weakref.finalize(self, getattr(library, f"recarena_{subject}{FREES}"), self.pointer)
