"""The floor: the same load against a system that does nothing, which shows what the referee itself costs."""

from __future__ import annotations

from harness.estimate.replay import SegmentObservation
from harness.measurement.bench import Bench, Stretch
from harness.record.floor import FLOOR_QPS, NULL_PROBES, PROBE_S, find_floor, floor_latency, floor_s, holds, null_p99_ns
from harness.record.result import Floor

NULL = "floor"


def null_latency(bench: Bench) -> Floor:
    """p50 and p99 of the null system at 1,000 queries/s."""
    return floor_latency(_offer(bench, 0, FLOOR_QPS, floor_s(bench.budget)))


def null_probe_p99_ns(bench: Bench, index: int) -> float:
    """p99 of a short null probe: outside evidence for a quad (R16)."""
    return null_p99_ns(_offer(bench, NULL_PROBES + index, FLOOR_QPS, PROBE_S))


def measure_floor(bench: Bench, floor: Floor, reported_qps: float) -> Floor:
    """The null system's LBT by short probes; see ``harness.record.floor.find_floor``."""

    def probe(rate_qps: float, index: int) -> bool:
        return holds(_offer(bench, index, rate_qps, PROBE_S), bench.trial.sla)

    return find_floor(floor, reported_qps, probe)


def _offer(bench: Bench, index: int, rate_qps: float, seconds: float) -> SegmentObservation:
    return bench.open_loop(NULL, Stretch(purpose="floor", index=index, rate_qps=rate_qps, seconds=seconds))
