"""Closed-loop service times of one side: what is reported of them, and the twin that they feed. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.estimate.longrun import QueueTwin
from harness.estimate.twin import ServiceTable, fit_service_table
from harness.record.segments import SegmentRows
from harness.record.side_result import ServiceTimes
from harness.traffic.query_sizes import pmf
from optimizations.contract import Dispatch

SERVICE_SIZES = (1, 10, 32, 100)
ROUND = 1000
"""Index of a service trace: ROUND * round + size for a fixed size, ROUND * round + MIX for the trial's mix."""
MIX = 500
ROUNDS = 2
"""The sides take turns so often, each time with half of the queries."""
SERVICE_S = 30.0
"""Seconds after which a service segment ends, whatever is left of it."""
MOST_QUERIES = 4000
PAIRED_S, PAIRED_LIMIT_S = 0.3, 5.0
"""What the paired queries of a segment take on the slower side, about, and at most."""
Float64 = npt.NDArray[np.float64]


def service_counts(repeats: int) -> dict[int, int]:
    """Queries of each fixed size: ``repeats``, and four times as many of the largest, whose p99 makes the slack: of 50
    it would be the slowest one seen, and the slowest tells of the host."""
    return {size: repeats * (4 if size == max(SERVICE_SIZES) else 1) for size in SERVICE_SIZES}


def service_queries(repeats: int) -> dict[int, int]:
    """Queries of each service segment of a round: by fixed size, and under ``MIX`` those of the trial's mix."""
    fixed = {size: max(2, count // ROUNDS) for size, count in service_counts(repeats).items()}
    return {**fixed, MIX: 2 * repeats}


def paired_queries(mean_service_ns: float) -> int:
    """How many queries of the mix fill ``PAIRED_S`` at this mean service time."""
    return int(np.clip(PAIRED_S * 1e9 / mean_service_ns, 10, 200))


def queries_to_outlast(seconds: float, service_ns: float) -> int:
    """Queries that outlast ``seconds`` at a service time that is surely too short; bounded for the arena's sake."""
    return int(np.clip(seconds * 1e9 / service_ns, 64, MOST_QUERIES))


def single_stream_queries(seconds: float, mean_service_ns: float) -> int:
    """How many queries a client that waits for each answer may ask in so many seconds."""
    return queries_to_outlast(seconds, mean_service_ns / 1.5)


def offline_queries(seconds: float, workers: int, largest_ns: Float64) -> int:
    """How many of the largest size may be answered in so many seconds. largest_ns: (n,) what one took by itself."""
    return queries_to_outlast(seconds * workers, float(np.median(largest_ns)) / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSamples:
    """Service times in ns of answered queries. by_size: those of the fixed sizes. sizes, times: all of them, (n,)."""

    by_size: Mapping[int, Float64]
    sizes: npt.NDArray[np.int64]
    times: Float64

    def table(self) -> ServiceTable:
        """Service time by size, for the twin. ValueError below 2 samples."""
        return fit_service_table(self.sizes, self.times)


def service_samples(segments: Sequence[SegmentRows]) -> ServiceSamples:
    """What the ``service`` segments of one side tell, in the order in which they ran."""
    by_size: dict[int, Float64] = {size: np.zeros(0) for size in SERVICE_SIZES}
    sizes, times = [np.zeros(0, np.int64)], [np.zeros(0)]
    for segment in segments:
        answered = segment.answered
        sizes.append(segment.columns["size"][answered])
        times.append(segment.service_ns[answered])
        fixed = segment.info.trace % ROUND
        if fixed in by_size:
            by_size[fixed] = np.concatenate([by_size[fixed], times[-1]])
    return ServiceSamples(by_size=by_size, sizes=np.concatenate(sizes), times=np.concatenate(times))


def queue_twin(table: ServiceTable, query_sizes: str, workers: int, dispatch: Dispatch) -> QueueTwin:
    """The queueing twin of a side under the trial's mix of sizes."""
    mix = pmf(query_sizes)
    sizes = np.flatnonzero(mix)
    return QueueTwin(
        table=table,
        sizes=sizes,
        probability=mix[sizes],
        workers=workers,
        dispatch=dispatch,
    )


def slack(samples: ServiceSamples, limit_ns: int) -> float | None:
    """SLA limit over the p99 service time of a 100-sample query (the largest one seen below 100 repeats)."""
    times = samples.by_size[max(SERVICE_SIZES)]
    return float(limit_ns / np.quantile(times, 0.99, method="higher")) if len(times) else None


def service_times(samples: ServiceSamples) -> ServiceTimes:
    """Median service time by size."""
    medians = [float(np.median(times)) / 1e6 if len(times) else None for times in samples.by_size.values()]
    return ServiceTimes(n1=medians[0], n10=medians[1], n32=medians[2], n100=medians[3])
