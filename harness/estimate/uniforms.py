"""Uniform random numbers of a seed, drawn once for all who ask for a beginning of the same stream."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_KEPT = 2**20
"""Longest beginning that is kept: 8 MiB."""


def uniforms(seed: int, shape: tuple[int, ...]) -> Array:
    """``np.random.default_rng(seed).random(shape)``; may be read-only."""
    count = math.prod(shape)
    if count > _KEPT:
        return np.random.default_rng(seed).random(shape)
    return _stream(seed, max(1024, 2 ** (count - 1).bit_length()))[:count].reshape(shape)


@lru_cache(maxsize=4)
def _stream(seed: int, length: int) -> Array:
    drawn = np.random.default_rng(seed).random(length)
    drawn.flags.writeable = False
    return drawn
