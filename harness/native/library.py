"""The one library of the native sources beside this file."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from optimizations.kernels.loader import KernelsUnavailable, load_library

EXACT = ("-ffp-contract=off",)
"""A product and a sum that are contracted are rounded once instead of twice: other bits than numpy's."""


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The library, built at first use (some seconds); None where there is no compiler."""
    try:
        return load_library(Path(__file__).parent, EXACT)
    except KernelsUnavailable:
        return None


def addresses(*arrays: object) -> list[int]:
    """Where the data of arrays begins."""
    return [array.ctypes.data for array in arrays]  # type: ignore[attr-defined]
