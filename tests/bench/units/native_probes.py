"""Builds ``roofline.cpp`` beside the kernels' own vector type and calls it."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from optimizations.kernels.loader import (
    FLAGS,
    SOURCES,
    KernelsUnavailable,
    find_compiler,
    machine_flags,
    words_and_flags,
)

SOURCE = Path(__file__).with_name("roofline.cpp")
ROUNDS = 40_000
"""Multiply-adds per lane of each chain in one call: about a tenth of a millisecond."""
Probe = Callable[[], float]
"""Does a fixed amount of work and returns it, in operations or bytes."""


def load_probes() -> ctypes.CDLL:
    """The probes, built anew in about a second. Raises KernelsUnavailable: no compiler, or one that fails."""
    words, own = words_and_flags(find_compiler())
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "roofline.so"
        command = [*words, *FLAGS, *machine_flags(), *own, f"-I{SOURCES}", str(SOURCE), "-shared", "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            message = (done.stderr.splitlines() or ["no message"])[0]
            raise KernelsUnavailable(f"the probes of the roofline cannot be built: {message}")
        probes = ctypes.CDLL(str(library))
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    probes.bench_multiply_add.argtypes, probes.bench_multiply_add.restype = [count, pointer], count
    probes.bench_random_rows.argtypes = [pointer, count, count, count, count, pointer, pointer]
    probes.bench_random_rows.restype = count
    return probes


def multiply_add(probes: ctypes.CDLL) -> Probe:
    """Operations of multiply-adds between registers: no memory, no dependency that a core cannot hide."""
    numbers = torch.tensor([0.5, 0.25, 0.0])  # factor, summand, result: the chains stay at about one half

    def run() -> float:
        return float(probes.bench_multiply_add(ROUNDS, numbers.data_ptr()))

    return run


def random_rows(probes: ctypes.CDLL, table: Tensor, row_bytes: int, lookups: int, batch: int) -> Probe:
    """Bytes of ``lookups`` random rows read out of ``table``, ``batch`` rows asked for ahead of their use."""
    state, total = torch.tensor([88172645463325252]), torch.zeros(1)
    rows = table.numel() * table.element_size() // row_bytes

    def run() -> float:
        pointers = (state.data_ptr(), total.data_ptr())
        return float(probes.bench_random_rows(table.data_ptr(), row_bytes, rows, lookups, batch, *pointers))

    return run
