"""``queues.cpp`` behind numpy arrays. ``compiled()`` is None on a machine that cannot build it."""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_double, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.native.library import addresses, native_library

Array = npt.NDArray[Any]
LANES = 8
_SIGNATURES = {
    "fifo_latency": (None, [c_void_p] * 3 + [c_int64] * 3),
    "fifo_late": (c_int64, [c_void_p] * 4 + [c_int64] * 4 + [c_double] * 3 + [c_void_p] * 2),
    "fifo_between": (c_int64, [c_void_p] * 3 + [c_int64] * 5 + [c_double] * 4 + [c_void_p] * 2),
    "draw_service": (None, [c_void_p] * 7 + [c_int64]),
    "first_free": (None, [c_void_p] * 2 + [c_int64] * 2),
    "serve_parts": (None, [c_void_p] * 5 + [c_int64] * 3 + [c_double]),
}


@functools.cache
def compiled() -> Queues | None:
    """The compiled queues, built at first use; None where there is no compiler."""
    library = native_library()
    return None if library is None else Queues(library)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traces:
    """Segments side by side: arrivals_ns, mean_ns (mean service), counted (bool): (segments, longest); noise, factors
    on service: (copies, segments, longest)."""

    arrivals_ns: Array
    mean_ns: Array
    noise: Array
    counted: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Long traces, eight side by side: arrivals at one query per second and service_ns, in ns, (blocks, n, 8).

    traces: how many there are; the last block may have rows of 0 beside them. spells: (traces, spells) factors on
    service, each length_ns long and the first one again after the last, or None.
    """

    arrivals: Array
    service_ns: Array
    traces: int
    spells: Array | None
    length_ns: float

    @staticmethod
    def of_rows(rows: Array) -> Array:
        """(traces, n) as (blocks, n, 8)."""
        blocks = -(-len(rows) // LANES)
        padded = np.zeros((blocks * LANES, rows.shape[1]), rows.dtype)
        padded[: len(rows)] = rows
        return np.ascontiguousarray(padded.reshape(blocks, LANES, -1).transpose(0, 2, 1))


class Queues:
    """FIFO queues with any number of workers; each method has the bits of the form in numpy that it stands for."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self._library = library

    def latency(self, arrivals_ns: Array, service_ns: Array, workers: int) -> Array:
        """Latency of every query; all (..., n), leading axes broadcast."""
        given = np.broadcast_arrays(arrivals_ns, service_ns)
        arrivals, service = (np.ascontiguousarray(x, dtype=np.float64) for x in given)
        found, n = np.empty_like(service), service.shape[-1]
        self._library.fifo_latency(*addresses(arrivals, service, found), service.size // max(n, 1), n, workers)
        return found

    def late(
        self, traces: Traces, workers: int, factor: float, delay_ns: float, threshold_ns: float
    ) -> tuple[Array, Array]:
        """Place in the flat (copies, segments, longest) and latency of each counted query above the threshold."""
        copies, segments, longest = traces.noise.shape
        place, found = np.empty(traces.noise.size, np.int64), np.empty(traces.noise.size)
        count = self._library.fifo_late(
            *addresses(traces.arrivals_ns, traces.mean_ns, traces.noise, traces.counted), segments, longest, copies,
            workers, factor, delay_ns, threshold_ns, *addresses(place, found),
        )  # fmt: skip
        return place[:count], found[:count]

    def between(
        self, given: Columns, workers: int, rate: float, first: int, within_ns: tuple[float, float]
    ) -> tuple[Array, int]:
        """Latencies in (low, high] at this rate, without the first queries of each trace, and the number of those
        above."""
        n, spells = given.arrivals.shape[1], given.spells
        found, above = np.empty(given.traces * n), ctypes.c_int64()
        size = self._library.fifo_between(
            *addresses(given.arrivals, given.service_ns), None if spells is None else spells.ctypes.data, given.traces,
            n, first, workers, 0 if spells is None else spells.shape[1], rate, given.length_ns, *within_ns,
            *addresses(found), ctypes.addressof(above),
        )  # fmt: skip
        return found[:size], above.value

    def draw_service(self, kind: Array, uniform: Array, of_kind: tuple[Array, Array, Array], spread: Array) -> Array:
        """Service times of queries: the mean of their kind times one of ``spread``. kind (int32), uniform: any shape.

        of_kind: mean, and where in ``spread`` the values begin and how many they are.
        """
        mean, count, values = (np.ascontiguousarray(x, dtype=np.float64) for x in (of_kind[0], of_kind[2], spread))
        first, service = np.ascontiguousarray(of_kind[1], dtype=np.int64), np.empty(kind.shape)
        self._library.draw_service(*addresses(kind, uniform, mean, first, count, values, service), service.size)
        return service

    def first_free(self, done_ns: Array, workers: int) -> Array:
        """When the first worker has finished the queries before each; (n,), -inf while one has had none."""
        done = np.ascontiguousarray(done_ns, dtype=np.float64)
        free = np.empty_like(done)
        self._library.first_free(*addresses(done, free), done.size, workers)
        return free

    def serve_parts(
        self, parts: tuple[Array, Array, Array], by_samples: Array, workers: int, batch: int, wait_ns: float
    ) -> Array:
        """When each part is done. parts: arrival, size, factor, each (n,); by_samples: service by merged size."""
        arrival, factor, table = (np.ascontiguousarray(x, dtype=np.float64) for x in (parts[0], parts[2], by_samples))
        size, done = np.ascontiguousarray(parts[1], dtype=np.int64), np.empty_like(arrival)
        self._library.serve_parts(*addresses(arrival, size, factor, table, done), done.size, workers, batch, wait_ns)
        return done
