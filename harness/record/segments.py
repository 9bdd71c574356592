"""The raw columns cut into segments: what one stretch of load did, for whoever computes a number from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.replay import THAW_NS, SegmentObservation
from harness.record.result import SegmentInfo
from harness.traffic.segment import Status

Columns = Mapping[str, npt.NDArray[Any]]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRows:
    """One segment and its rows of ``queries.parquet``, in order of planned arrival; Q queries."""

    info: SegmentInfo
    columns: Columns

    def __len__(self) -> int:
        return len(self.columns["status"])

    @property
    def answered(self) -> Mask:
        """Which queries got a whole, finite answer [Q]."""
        return np.asarray(self.columns["status"] == Status.ANSWERED)

    @property
    def latency_ns(self) -> Float64:
        """Planned arrival to whole answer [Q]; inf where there was no good answer."""
        return np.where(self.answered, self.columns["done_ns"] - self.columns["planned_ns"], np.inf)

    @property
    def service_ns(self) -> Float64:
        """Sending to whole answer [Q], for closed loops; inf where there was no good answer."""
        return np.where(self.answered, self.columns["done_ns"] - self.columns["sent_ns"], np.inf)

    @property
    def inside(self) -> Mask:
        """Which queries were planned in the counted stretch [Q]."""
        planned = self.columns["planned_ns"]
        return np.asarray((planned >= self.info.counted_from_ns) & (planned < self.info.counted_to_ns))

    def recounted(self, limit_ns: int) -> SegmentInfo:
        """The segment's description with its queries and late ones counted from the columns (R3)."""
        inside, late = self.inside, self.latency_ns > limit_ns
        return dataclasses.replace(
            self.info, queries=int(np.count_nonzero(inside)), late=int(np.count_nonzero(inside & late))
        )

    def observation(self) -> SegmentObservation:
        """An open-loop segment as the estimator takes it. ValueError for a closed loop."""
        info = self.info
        if info.offered_qps is None or info.seconds is None:
            raise ValueError(f"segment {info.segment} ({info.side}, {info.purpose}) has no offered rate and duration")
        return SegmentObservation(
            offered_qps=info.offered_qps,
            trace_id=f"{info.purpose}/{info.trace}",
            quad=info.quad,
            planned_ns=self.columns["planned_ns"] - (info.counted_from_ns - int(THAW_NS)),
            sizes=self.columns["size"],
            latency_ns=self.latency_ns,
            duration_s=info.seconds,
            aborted=bool(info.aborted),
        )


def cut(infos: Iterable[SegmentInfo], queries: Columns) -> list[SegmentRows]:
    """The rows of each segment, in their order in the record. ``queries``: all columns, each [Q]."""
    order = np.argsort(queries["segment"], kind="stable")
    numbers = queries["segment"][order]
    found = []
    for info in infos:
        first, last = np.searchsorted(numbers, [info.segment, info.segment + 1])
        rows = order[first:last]
        found.append(SegmentRows(info=info, columns={name: column[rows] for name, column in queries.items()}))
    return found


def of_purpose(rows: Sequence[SegmentRows], purpose: str, side: str | None = None) -> list[SegmentRows]:
    """The segments of one purpose, of one side or of all, in the order in which they ran."""
    return [row for row in rows if row.info.purpose == purpose and side in (None, row.info.side)]
