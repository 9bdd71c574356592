"""``waits.cpp`` behind numpy arrays. ``compiled()`` is None on a machine that cannot build it."""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_double, c_int64, c_void_p
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.native.library import addresses, native_library

Array = npt.NDArray[Any]
_SIGNATURES = {
    "residual_cells": [c_void_p] * 2 + [c_int64] + [c_double] * 2 + [c_void_p] * 2 + [c_int64],
    "edge_tails": [c_void_p] * 4 + [c_int64] * 3,
    "read_tail": [c_void_p] * 2 + [c_int64] + [c_void_p] * 3 + [c_int64],
    "lump": [c_void_p] * 4 + [c_int64] + [c_double] * 2 + [c_void_p] * 2,
}


@functools.cache
def compiled() -> Waits | None:
    """The compiled loops, built at first use; None where there is no compiler."""
    library = native_library()
    return None if library is None else Waits(library)


class Waits:
    """Each method has the bits of the form in numpy that it stands for."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = None, arguments
        self._library = library

    def residual_cells(self, ns: Array, probability: Array, step_ns: float, mean_ns: float, damping: Array) -> Array:
        """Damped mass of the residual service time in cells around 0, step, 2 step, ...; as ``damping``."""
        atoms = [np.ascontiguousarray(x, dtype=np.float64) for x in (ns, probability)]
        cells = np.empty_like(damping)
        self._library.residual_cells(
            *addresses(*atoms), ns.size, step_ns, mean_ns, *addresses(damping, cells), cells.size
        )
        return cells

    def edge_tails(self, wait: Array, damping: Array, loads: Array, edges: int) -> Array:
        """P(wait > x) at edges of cells, (queues, edges), from the damped masses in them, (queues, cells)."""
        tail = np.empty((loads.size, edges))
        self._library.edge_tails(*addresses(wait, damping, loads, tail), loads.size, wait.shape[1], edges)
        return tail

    def read_tail(self, tail: Array, width: Array, cell: Array, beyond: Array) -> Array:
        """The tail (edges,) at moments, so far beyond the edges numbered ``cell`` (int32; -1: 1). Shape of beyond."""
        found = np.empty_like(beyond)
        self._library.read_tail(*addresses(tail, width), tail.size, *addresses(cell, beyond, found), found.size)
        return found

    def lump(self, ns: Array, log_ns: Array, count: Array, share: Array, width: float) -> tuple[Array, Array]:
        """Mass, and mass times value, of values whose logs lie within the same width; from the lowest atom on.

        count: (sizes,) values of each size, one after the other; share: (sizes,) mass of each of them.
        """
        lowest, highest = (float(np.floor(x / width)) for x in (log_ns.min(), log_ns.max()))
        mass, moment = np.zeros((2, int(highest - lowest) + 1))
        self._library.lump(*addresses(log_ns, ns, count, share), count.size, width, lowest, *addresses(mass, moment))
        return mass, moment
