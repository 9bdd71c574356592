"""What a result says of each stretch of load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """One stretch of offered load. Queries planned in [counted_from_ns, counted_to_ns) count, the others are ramp.

    side: baseline | candidate | floor. purpose: service | search | quad | paired | latency | single_stream | offline |
    new (samples that were never asked for) | known (samples of the accuracy run, beside them) | floor | certificate
    (from held-out seeds) | loadgen (arrivals drawn by MLPerf LoadGen, not from our seed). ``quad`` is -1 outside of the
    ABBA quads. ``late`` of ``queries`` counted ones missed the limit (or had no answer). A closed loop has no offered
    rate.
    trace, sizes: index and distribution of query sizes of the trace (``harness.traffic.published``); -1 and "" where
    the record does not say. seconds: how long queries were to arrive (open loop) or to be asked (closed loop).
    asked: how many queries the trace holds; a closed loop may run out of time before the last. aborted: why it was
    cut short, "" if it was not.
    """

    side: str
    segment: int
    purpose: str
    offered_qps: float | None
    counted_from_ns: int
    counted_to_ns: int
    queries: int
    late: int
    quad: int = -1
    voided: bool = False
    trace: int = -1
    sizes: str = ""
    seconds: float | None = None
    asked: int = 0
    aborted: str = ""
