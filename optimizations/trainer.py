"""``python -m optimizations.trainer SPEC.json``: ``zoo.training`` with the recurrences on the native kernels.

The mathematics are the same; without a C++ compiler the framework's own operators run.
"""

from __future__ import annotations

import sys

from optimizations.fusion.native_evolution import NativeEvolution
from optimizations.kernels.loader import KernelsUnavailable, load_kernels
from zoo.layers.packed_recurrence import Evolve, evolve
from zoo.training import main


def recurrence() -> Evolve:
    """The fastest recurrence that this machine can build."""
    try:
        load_kernels()
    except KernelsUnavailable:
        return evolve
    native: Evolve = NativeEvolution.apply
    return native


if __name__ == "__main__":
    main(sys.argv[1], recurrence())
