"""Numbers that are derived from the raw query columns when they are read: latencies, late counts, percentiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.stats import percentile
from harness.record.result import SegmentInfo
from harness.traffic.segment import Status

Columns = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]


def latencies_ms(queries: Columns) -> npt.NDArray[np.float64]:
    """Latency [Q] from the planned arrival to the whole answer; infinite where there was no good answer."""
    taken = (queries["done_ns"] - queries["planned_ns"]) / 1e6
    return np.where(queries["status"] == Status.ANSWERED, taken, np.inf)


def service_ms(queries: Columns) -> npt.NDArray[np.float64]:
    """Time [Q] from sending to the whole answer, for closed loops; infinite where there was no good answer."""
    taken = (queries["done_ns"] - queries["sent_ns"]) / 1e6
    return np.where(queries["status"] == Status.ANSWERED, taken, np.inf)


def counted(queries: Columns, segments: Iterable[SegmentInfo]) -> Mask:
    """[Q] True where a query belongs to one of the segments and was planned inside of its counted stretch."""
    rows = np.zeros(len(queries["segment"]), bool)
    for segment in segments:
        planned = queries["planned_ns"]
        own = (queries["side"] == segment.side) & (queries["segment"] == segment.segment)
        rows |= own & (planned >= segment.counted_from_ns) & (planned < segment.counted_to_ns)
    return rows


def late_count(queries: Columns, segment: SegmentInfo, limit_ms: float) -> tuple[int, int]:
    """(queries, late ones) of a segment: later than ``limit_ms`` or without a good answer."""
    latencies = latencies_ms(queries)[counted(queries, [segment])]
    return len(latencies), int((latencies > limit_ms).sum())


def percentile_ms(latencies: npt.NDArray[np.float64], share: float) -> float | None:
    """An observed latency at ``share`` in (0, 1); None for too few queries or where it has no answer (infinite)."""
    value = percentile(latencies, share)
    return value if value is not None and np.isfinite(value) else None


def milliseconds(value_ns: float | None) -> float | None:
    """Nanoseconds as milliseconds; None for None and for what never ended (infinite)."""
    return None if value_ns is None or not np.isfinite(value_ns) else value_ns / 1e6
