"""The machine's roofline, measured: the rate of the fastest code at hand for each resource, on one thread.

Williams, Waterman & Patterson, "Roofline", 2009, with a bandwidth per working set (Ilic, Pratas & Sousa,
"Cache-aware roofline model", 2014): a unit whose operands fit the caches is held against the caches.
A roof is a probe that can be run again, since a host's speed changes from minute to minute: a unit's share compares
the unit with probes that ran beside it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.clock import thread_cpu_ns
from optimizations.kernels.loader import KernelsUnavailable
from tests.bench.units.native_probes import Probe, load_probes, multiply_add, random_rows
from tests.bench.units.work import Work

SQUARES = (512, 1024)
"""Rows of the square products of which the faster one stands for "a large product"."""
LOOKUPS = 131_072
"""Rows per run of a probe: enough to bring the table's page tables back into the caches on the first, untimed one."""
BATCHES = (8, 16, 32, 64, 128, 256)
PROBE_BYTES = 8_000_000
"""A small working set is copied so often that a call moves about this much."""
TRIES = 7


@dataclass(frozen=True, slots=True)
class Roof:
    """``run`` does a fixed amount of work, ``rate`` of it per second were measured first. ``source``: what ran."""

    resource: str
    unit: str  # "FLOP/s" or "B/s"
    source: str
    run: Probe
    rate: float

    def measured(self) -> float:
        """The rate of one more run."""
        started = thread_cpu_ns()
        amount = self.run()
        return amount * 1e9 / (thread_cpu_ns() - started)


class Roofline:
    """Roofs of this machine, measured when they are first asked for. ``table``: memory far larger than the caches."""

    def __init__(self, table: Tensor, native: frozenset[str]) -> None:
        self.table, self.native = table, native
        self._known: dict[tuple[str, int], Roof] = {}
        try:
            self._probes: ctypes.CDLL | None = load_probes()
        except KernelsUnavailable:
            self._probes = None

    def compute(self, dtype: str) -> Roof:
        """Operations per second in ``dtype``; in fp32 where the processor multiplies nothing shorter."""
        if dtype == "fp32" or dtype not in self.native:
            return self._best("fp32", 0, self._fp32)
        return self._best(dtype, 0, lambda: _products(dtype))

    def sequential(self, working_set: int) -> Roof:
        """Bytes per second, read and written, of a copy from one half of ``working_set`` bytes to the other."""
        half = max(64, working_set // 2)
        return self._best("sequential", half, lambda: {f"copy within {working_set:,} B": _copy(half)})

    def random(self, row_bytes: int, table: Tensor) -> Roof:
        """Bytes per second of rows of ``row_bytes`` from anywhere in ``table``."""
        size = table.numel() * table.element_size()
        return self._best(f"random {row_bytes} B", size, lambda: self._gathers(row_bytes, table))

    def bounding(self, work: Work, dtype: str, table: Tensor | None) -> tuple[Roof, float]:
        """(the roof that bounds ``work``, its amount in that roof's unit): the resource that takes the longest."""
        if work.random_bytes and table is not None:
            return self.random(work.row_bytes, table), float(work.random_bytes)
        memory = self.sequential(work.sequential_bytes), float(work.sequential_bytes)
        if not work.flops:
            return memory
        return max((self.compute(dtype), float(work.flops)), memory, key=lambda pair: pair[1] / pair[0].rate)

    def _best(self, resource: str, size: int, candidates: Callable[[], dict[str, Probe]]) -> Roof:
        key = (resource, size)
        if key not in self._known:
            unit = "FLOP/s" if resource in ("fp32", "bf16", "int8") else "B/s"
            roofs = [_calibrated(resource, unit, source, run) for source, run in candidates().items()]
            self._known[key] = max(roofs, key=lambda roof: roof.rate)
        return self._known[key]

    def _fp32(self) -> dict[str, Probe]:
        return _products("fp32") | ({"multiply-adds in registers": multiply_add(self._probes)} if self._probes else {})

    def _gathers(self, row_bytes: int, table: Tensor) -> dict[str, Probe]:
        found = {"torch index_select": _selection(row_bytes, table)}
        if self._probes is not None:
            probe = functools.partial(random_rows, self._probes, table, row_bytes, LOOKUPS)
            found |= {f"rows asked for {batch} ahead": probe(batch) for batch in BATCHES}
        return found


def median(values: Sequence[float]) -> float:
    """The middle value; the mean of both middle ones."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5))


def _calibrated(resource: str, unit: str, source: str, run: Probe) -> Roof:
    first = Roof(resource, unit, source, run, 0.0)
    first.measured()  # pages, caches, and the clock of wide vectors
    return Roof(resource, unit, source, run, median([first.measured() for _ in range(TRIES)]))


def _products(dtype: str) -> dict[str, Probe]:
    return {f"torch product of {rows} x {rows}": _product(dtype, rows) for rows in SQUARES}


def _product(dtype: str, rows: int) -> Probe:
    if dtype == "int8":
        integers = torch.randint(-127, 128, (rows, rows), dtype=torch.int8)
        return _amount(2.0 * rows**3, lambda: torch._int_mm(integers, integers))
    square = torch.randn(rows, rows).to(torch.bfloat16 if dtype == "bf16" else torch.float32)
    return _amount(2.0 * rows**3, lambda: torch.matmul(square, square))


def _copy(half: int) -> Probe:
    source, target = torch.ones(half, dtype=torch.uint8), torch.zeros(half, dtype=torch.uint8)
    start, to, times = source.data_ptr(), target.data_ptr(), max(1, PROBE_BYTES // (2 * half))

    def run() -> float:
        for _ in range(times):
            ctypes.memmove(to, start, half)
        return 2.0 * half * times

    run.keep = (source, target)  # type: ignore[attr-defined]
    return run


def _selection(row_bytes: int, table: Tensor) -> Probe:
    flat = table.view(torch.float32).flatten()
    rows = flat[: flat.numel() * 4 // row_bytes * row_bytes // 4].view(-1, row_bytes // 4)
    # Far more rows than caches hold, so that a row is gone when its turn comes again.
    places = torch.randint(len(rows), (32, LOOKUPS))
    turn = iter(range(10**12))
    return _amount(float(LOOKUPS * row_bytes), lambda: rows.index_select(0, places[next(turn) % len(places)]))


def _amount(amount: float, call: Callable[[], object]) -> Probe:
    def run() -> float:
        call()
        return amount

    return run
