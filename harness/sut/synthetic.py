"""Systems under test with a known service time: real queues whose answer mathematics knows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.backends.protocol import Score
from harness.clock import now_ns, sleep_until_ns
from harness.transport.wire import HEADER, SAMPLES, SAMPLES_OFFSET
from zoo.schema import Batch, Float32

FOREVER_NS = 1 << 60
Service = Callable[[int, np.random.Generator], float]


def null_predict(batch: Batch) -> Float32:
    """Zeros: the work of a SUT that does nothing."""
    return np.zeros(len(batch), np.float32)


def bind_null(payload: memoryview, scores: memoryview) -> Score:
    """``null_predict`` in place: nothing of the payload is read but the number of its samples."""
    zeros = bytes(len(scores))

    def score(size: int) -> int:
        (samples,) = SAMPLES.unpack_from(payload, SAMPLES_OFFSET)
        written = 4 * int(samples)
        if size < HEADER.size or not 0 <= written <= len(zeros):
            return -1
        scores[:written] = zeros[:written]
        return int(samples)

    return score


def service_model(spec: Mapping[str, Any]) -> Service:
    """Service time in ms of a query of n samples: {"law": "fixed" | "exponential", "mean_ms": m}, or
    {"law": "table", "table_ms": {"1": a, "100": b}}, interpolated in n; "noise_cv" multiplies it by a
    gamma variate of mean 1 and that coefficient of variation. Raises ValueError for another law."""
    base = _base(spec)
    noise = float(spec.get("noise_cv", 0.0))
    if not noise:
        return base
    shape = 1.0 / noise**2
    return lambda samples, rng: base(samples, rng) * rng.gamma(shape, 1.0 / shape)


def _base(spec: Mapping[str, Any]) -> Service:
    law = spec["law"]
    if law == "fixed":
        mean = float(spec["mean_ms"])
        return lambda samples, rng: mean
    if law == "exponential":
        mean = float(spec["mean_ms"])
        return lambda samples, rng: rng.exponential(mean)
    if law == "table":
        table = {int(size): float(time) for size, time in spec["table_ms"].items()}
        sizes = np.array(sorted(table), np.float64)
        times = np.array([table[int(size)] for size in sizes])
        return lambda samples, rng: float(np.interp(samples, sizes, times))
    raise ValueError(f"service law {law!r} is not known: use fixed, exponential or table")


class SyntheticPredict:
    """Answers zeros after the service time, counted from the call, by wall clock.

    ``wait`` "sleep": sleep, then at most 60 us of spin; "spin": spin all the time.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.service = service_model(spec["service"])
        self.spin_ns = {"sleep": 60_000, "spin": FOREVER_NS}[spec.get("wait", "sleep")]
        self._rng, self._lock = np.random.default_rng(spec.get("seed", 0)), threading.Lock()

    def __call__(self, batch: Batch) -> Float32:
        start = now_ns()
        with self._lock:
            time_ms = self.service(len(batch), self._rng)
        sleep_until_ns(start + int(time_ms * 1e6), self.spin_ns)
        return null_predict(batch)
