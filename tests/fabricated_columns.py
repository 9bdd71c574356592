"""Raw columns of a measurement that nobody made: queries of simple queues and scores with a given noise."""

from __future__ import annotations

import dataclasses

import numpy as np

from harness.record.derive import late_count
from harness.record.result import SegmentInfo

SECOND = 10**9


class Columns:
    """Queries of single-server queues, segment after segment, with the segments they belong to."""

    def __init__(self, rng: np.random.Generator, limit_ms: float) -> None:
        self.rng, self.limit_ms = rng, limit_ms
        self.parts: list[dict[str, np.ndarray]] = []
        self.segments: list[SegmentInfo] = []
        self.now = 5 * SECOND

    def add(self, side: str, purpose: str, qps: float, service_ms: float, seconds: float = 4.0, quad: int = -1) -> None:
        """Poisson arrivals at ``qps`` to one server of exponential service; the first half second is ramp."""
        count = max(2, int(qps * seconds))
        planned = self.now + np.cumsum(self.rng.exponential(SECOND / qps, count)).astype(np.int64)
        service = self.rng.exponential(service_ms * 1e6, count).astype(np.int64)
        done = np.empty_like(planned)
        free = 0
        for index in range(count):
            free = max(free, int(planned[index])) + int(service[index])
            done[index] = free
        number = len(self.segments)
        self.parts.append(
            {
                "side": np.full(count, side),
                "segment": np.full(count, number),
                "offered_qps": np.full(count, qps),
                "query_id": np.arange(count),
                "size": np.full(count, 10),
                "planned_ns": planned,
                "sent_ns": planned + 20_000,
                "done_ns": done,
                "status": np.zeros(count, np.int64),
                "dequeued_ns": planned + 40_000,
                "started_ns": planned + 50_000,
                "worker": np.zeros(count, np.int64),
            }
        )
        end = int(planned[-1]) + 1
        info = SegmentInfo(
            side=side,
            segment=number,
            purpose=purpose,
            offered_qps=qps,
            counted_from_ns=self.now + SECOND // 2,
            counted_to_ns=end,
            queries=0,
            late=0,
            quad=quad,
        )
        queries, late = late_count(self.parts[-1], info, self.limit_ms)
        self.segments.append(dataclasses.replace(info, queries=queries, late=late))
        self.now = end + SECOND

    def table(self) -> dict[str, np.ndarray]:
        """All queries."""
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}


def queries(rng: np.random.Generator, limit_ms: float, lbt: dict[str, float]) -> Columns:
    columns = Columns(rng, limit_ms)
    for side, qps in lbt.items():
        service = 1e3 / (qps + np.log(100) / limit_ms * 1e3)  # M/M/1: P(sojourn > d) = exp(-(mu - lambda) d)
        for share in (0.6, 1.0, 1.15):
            columns.add(side, "search", share * qps, service, 2.0)
        for quad in range(2):
            columns.add(side, "quad", qps, service, 2.0, quad)
        columns.add(side, "latency", 0.7 * qps, service, 8.0)
        columns.add(side, "single_stream", 0.2 * qps, service, 8.0)
    return columns


def predictions(rng: np.random.Generator, sides: list[str], shift: float) -> dict[str, np.ndarray]:
    chance = rng.beta(2, 6, 4000)
    labels = (rng.random(4000) < chance).astype(np.float32)
    scores = {"baseline": chance.astype(np.float32)}
    scores["candidate"] = np.clip(chance + shift * rng.normal(size=4000), 1e-4, 1 - 1e-4).astype(np.float32)
    parts = [
        (side, run, np.arange(size), scores[side][:size], labels[:size])
        for side in sides
        for run, size in (("accuracy", 4000), ("timed", 500))
    ]
    return {
        "side": np.concatenate([np.full(len(p[2]), p[0]) for p in parts]),
        "run": np.concatenate([np.full(len(p[2]), p[1]) for p in parts]),
        "sample_id": np.concatenate([p[2] for p in parts]),
        "score": np.concatenate([p[3] for p in parts]),
        "label": np.concatenate([p[4] for p in parts]),
    }
