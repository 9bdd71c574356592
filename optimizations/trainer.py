"""``python -m optimizations.trainer SPEC.json``: ``zoo.training`` with the recurrences on the native kernels.

The mathematics are the same; without a C++ compiler the framework's own operators run. The kernels are built when the
first recurrent layer is trained: a model without one does not wait for them.
"""

from __future__ import annotations

import functools
import sys

from torch import Tensor

from optimizations.fusion.native_evolution import NativeEvolution
from optimizations.kernels.loader import KernelsUnavailable, load_kernels
from zoo.layers.packed_recurrence import Evolve, evolve
from zoo.training import main


@functools.cache
def recurrence() -> Evolve:
    """The fastest recurrence that this machine can build."""
    try:
        load_kernels()
    except KernelsUnavailable:
        return evolve
    native: Evolve = NativeEvolution.apply
    return native


def evolve_fastest(gates: Tensor, attention: Tensor, weight: Tensor, bias: Tensor, running: list[int]) -> Tensor:
    """``Evolve`` by ``recurrence``."""
    return recurrence()(gates, attention, weight, bias, running)


if __name__ == "__main__":
    main(sys.argv[1], evolve_fastest)
