"""What a peer's trainer leaves: the arrays of its model, and how long the bags are that it takes, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.backends.peers.sample_matrix import Longest

Arrays = Mapping[str, npt.NDArray[Any]]
STATE, BAGS = "state.", "longest."


def trained_arrays(state: Arrays, longest: Longest) -> dict[str, npt.NDArray[Any]]:
    """Both under names that tell them apart."""
    bags = {BAGS + name: np.array([length], np.int64) for name, length in longest.items()}
    return {**{STATE + name: array for name, array in state.items()}, **bags}


def state_in(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the model by their own names."""
    return {name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)}


def bags_in(arrays: Arrays) -> dict[str, int]:
    """Values of each bag field's longest bag."""
    return {name.removeprefix(BAGS): int(array[0]) for name, array in arrays.items() if name.startswith(BAGS)}
