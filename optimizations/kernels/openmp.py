"""The kernels on the threads of the OpenMP runtime that the process works with already.

A thread of such a runtime waits for the next parallel region without sleeping, for milliseconds: kernels with helpers
of their own would share its core with it. Both GCC's runtime and LLVM's have the entry ``GOMP_parallel``.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from optimizations.kernels.loader import load_kernels

MAPS = Path("/proc/self/maps")
NAMES = ("libgomp", "libomp", "libiomp5")


def share_openmp_threads() -> bool:
    """Let the kernels use the threads of the OpenMP runtime that is loaded; False where none is found.

    Raises KernelsUnavailable where the kernels cannot be built.
    """
    library = load_kernels()
    for path in _loaded():
        entry = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if entry is not None:
            library.recarena_use_openmp(ctypes.cast(entry, ctypes.c_void_p))
            return True
    return False


def _loaded() -> list[str]:
    """Paths of the OpenMP runtimes in this process."""
    if not MAPS.exists():
        return []
    paths = {line.split(maxsplit=5)[-1] for line in MAPS.read_text().splitlines() if "/" in line}
    found = (path for path in paths if Path(path).name.startswith(NAMES))
    return sorted(found, key=lambda path: ("torch" not in path, path))  # the framework's own comes first
