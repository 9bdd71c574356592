"""First-in-first-out queues on given traces: when is each query done? Pure functions.

Every form below, and the compiled one (``harness.native``), takes the same steps in floating point for a query, so all
of them agree to the last bit.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.native.queues import compiled

Array = npt.NDArray[Any]
FEW_TRACES = 8
"""Up to so many traces are simulated one after the other where there are several workers."""


def simulate(arrivals_ns: Array, service_ns: Array, workers: int = 1) -> Array:
    """Latency of every query in a FIFO queue with ``workers`` servers that starts empty.

    arrivals_ns: (..., n) ascending; service_ns: (..., n), finite; leading axes broadcast and are independent traces.
    One server: Lindley's recursion D_k = max(A_k, D_(k-1)) + S_k, unrolled into a cumulative sum and maximum.
    """
    arrivals, service = np.asarray(arrivals_ns, dtype=np.float64), np.asarray(service_ns, dtype=np.float64)
    if library := compiled():
        return library.latency(arrivals, service, workers)
    if workers == 1:
        busy = np.cumsum(service, axis=-1)
        shift = busy - service
        whole = shift.shape == np.broadcast_shapes(arrivals.shape, shift.shape)
        shift = np.subtract(arrivals, shift, out=shift if whole else None)
        _running_maximum(shift)
        latency: Array = np.add(busy, shift, out=shift)
        latency -= arrivals
        return latency
    arrivals, service = np.broadcast_arrays(arrivals, service)
    flat_arrivals, flat_service = (np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T) for x in (arrivals, service))
    one_by_one = flat_arrivals.shape[1] <= FEW_TRACES
    done = (_done_one_by_one if one_by_one else _done_side_by_side)(flat_arrivals, flat_service, workers)
    done -= flat_arrivals
    return np.ascontiguousarray(done.T).reshape(arrivals.shape)


def _running_maximum(values: Array) -> None:
    """``np.maximum.accumulate`` over the last axis, in place, of values whose first ones are not negative.

    Floats that are not negative are ordered as the whole numbers with the same bits, and a negative one, whose sign bit
    makes it a negative number, is never the maximum here. Whole numbers need no thought for NaN, which saves time.
    """
    bits = values.view(np.int64) if values.size and values[..., 0].min() >= 0.0 else values
    np.maximum.accumulate(bits, axis=-1, out=bits)


def _done_one_by_one(arrivals: Array, service: Array, workers: int) -> Array:
    """When each query (n, traces) is done, trace after trace: plain floats beat arrays that are this short."""
    done = np.empty_like(service)
    for trace in range(done.shape[1]):
        free, ends = [-math.inf] * workers, []
        for arrival, work in zip(arrivals[:, trace].tolist(), service[:, trace].tolist(), strict=True):
            end = (free[0] if free[0] > arrival else arrival) + work
            heapq.heapreplace(free, end)
            ends.append(end)
        done[:, trace] = ends
    return done


def _done_side_by_side(arrivals: Array, service: Array, workers: int) -> Array:
    """When each query (n, traces) is done, all traces a query at a time."""
    free = [np.full(arrivals.shape[1], -np.inf) for _ in range(workers)]
    spare, done = np.empty_like(free[0]), np.empty_like(service)
    for arrival, work, end in zip(arrivals, service, done, strict=True):
        np.maximum(free[0], arrival, out=end)
        np.add(end, work, out=end)
        last = end
        for w in range(1, workers):  # the others are in order: one pass puts the new one into its place
            np.maximum(free[w], last, out=spare)
            np.minimum(free[w], last, out=free[w - 1])
            free[w], spare = spare, free[w]
            last = free[w]
    return done


def first_free(done_ns: Array, workers: int) -> Array:
    """When the first of the workers has finished the queries before each one; -inf while one has had none.

    done_ns: (n,), -inf for a query that never ends.
    """
    if workers == 1:
        return np.concatenate(([-np.inf], np.maximum.accumulate(done_ns)[:-1]))
    if library := compiled():
        return library.first_free(done_ns, workers)
    latest, free = [-np.inf] * workers, np.empty(done_ns.size)
    for k, finish in enumerate(done_ns.tolist()):
        free[k] = latest[0]
        heapq.heappushpop(latest, finish)
    return free
