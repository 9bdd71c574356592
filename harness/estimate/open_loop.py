"""What the open loop itself tells about service: work per query, the delay before it, the speed of each segment.

A FIFO queue starts query k when it has arrived and a worker is free; its answers' times therefore show how long every
query was worked on, whether or not one was late (Lindley 1952, read backwards):

    work_k = done_k - max(planned_k + delay, free_k),   free_k: when the first of the workers ran out of older queries

The delay is what an idle system adds to the work before it starts (transport, waking up): the difference between
queries that found it idle and queries that found it busy. All from the referee's own stamps. Pure functions.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import ServiceTable, fit_service_table

Array = npt.NDArray[Any]

MOST_OUT_OF_ORDER = 0.01
"""Above this share of answers that overtook an older one the system is no FIFO queue, and its work stays unknown."""
FEWEST_QUERIES = 60
_FEWEST_OF_A_KIND = 10
_PASSES = 2
_MEDIAN_VARIANCE = np.pi / 2.0
_MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenLoop:
    """The twin with its service as the open loop shows it.

    log_speeds: (segments,) log of each segment's service time over the table's (mean 0 by number of queries). known:
    whether work could be inferred; if not, the twin is as it was and the speeds are 0. sizes, work_ns, owner: (n,) the
    queries behind the table, their work at the table's speed and the segments that they belong to.
    """

    twin: QueueTwin
    log_speeds: Array
    known: bool
    sizes: Array
    work_ns: Array
    owner: Array

    def without(self, segment: int) -> QueueTwin:
        """The twin, its table refitted to all other segments."""
        rest = self.owner != segment
        if not self.known or np.count_nonzero(rest) < FEWEST_QUERIES:
            return self.twin
        return dataclasses.replace(self.twin, table=fit_service_table(self.sizes[rest], self.work_ns[rest]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """Of one segment's counted, answered queries: size, work in ns (not positive where an answer overtook an older
    one), latency in ns, and how long before the query's arrival a worker was free (negative: it had to wait)."""

    sizes: Array
    ns: Array
    latency_ns: Array
    idle_ns: Array


def work_of(segment: SegmentObservation, workers: int, delay_ns: float = 0.0) -> Work:
    """Work of each counted query that was answered, if the system is a FIFO queue with so many workers."""
    planned = np.asarray(segment.planned_ns, dtype=np.float64)
    done = planned + np.asarray(segment.latency_ns, dtype=np.float64)
    free = _free_at(done, workers)
    ns = done - np.maximum(planned + delay_ns, free)
    keep = segment.counted & np.isfinite(done)
    return Work(
        sizes=np.asarray(segment.sizes)[keep], ns=ns[keep], latency_ns=(done - planned)[keep],
        idle_ns=(planned - free)[keep],
    )  # fmt: skip


def _free_at(done: Array, workers: int) -> Array:
    """When the first of the workers has finished the queries before each one; -inf while one has had none."""
    answered = np.where(np.isfinite(done), done, -np.inf)
    if workers == 1:
        return np.concatenate(([-np.inf], np.maximum.accumulate(answered)[:-1]))
    latest, free = [-np.inf] * workers, np.empty(done.size)
    for k, finish in enumerate(answered.tolist()):
        free[k] = latest[0]
        heapq.heappushpop(latest, finish)
    return free


def open_loop_twin(segments: Sequence[SegmentObservation], twin: QueueTwin) -> OpenLoop:
    """Refit the twin's table, noise and delay to these segments, and find the speed of each.

    Unknown where queries are split or merged, where answers overtake one another, and below 60 answered queries.
    """
    none = np.zeros(0)
    unknown = OpenLoop(twin=twin, log_speeds=np.zeros(len(segments)), known=False, sizes=none, work_ns=none, owner=none)
    if not twin.plain or not segments:
        return unknown
    table, delay_ns, speeds = twin.table, 0.0, np.zeros(len(segments))
    sizes, ns, owner = none, none, none
    for _ in range(_PASSES):
        delay_ns = _delay(segments, twin.workers, table)
        works = [work_of(segment, twin.workers, delay_ns) for segment in segments]
        sizes, ns = (np.concatenate([getattr(work, name) for work in works]) for name in ("sizes", "ns"))
        owner = np.repeat(np.arange(len(works)), [work.ns.size for work in works])
        sound = ns > 0.0
        if sound.sum() < FEWEST_QUERIES or np.mean(~sound) > MOST_OUT_OF_ORDER:
            return unknown
        sizes, ns, owner = sizes[sound], ns[sound], owner[sound]
        speeds = _speeds(np.log(ns / table.mean(sizes)), owner, len(works))
        table = fit_service_table(sizes, ns / np.exp(speeds[owner]))
    return OpenLoop(
        twin=dataclasses.replace(twin, table=table, delay_ns=delay_ns), log_speeds=speeds, known=True, sizes=sizes,
        work_ns=ns / np.exp(speeds[owner]), owner=owner,
    )  # fmt: skip


def _delay(segments: Sequence[SegmentObservation], workers: int, table: ServiceTable) -> float:
    """Delay in ns that makes queries which found the system idle as fast as those which waited; 0 if few did either."""
    delay = 0.0
    for _ in range(3):
        values, weights = [], []
        for segment in segments:
            work = work_of(segment, workers)
            mean, idle, busy = table.mean(work.sizes), work.idle_ns >= 0.0, work.idle_ns < -delay
            fewest = min(np.count_nonzero(idle), np.count_nonzero(busy))
            if fewest < _FEWEST_OF_A_KIND:
                continue
            speed = float(np.median(work.ns[busy] / mean[busy]))
            values.append(float(np.median(work.latency_ns[idle] - speed * mean[idle])))
            weights.append(fewest)
        if not values:
            return 0.0
        delay = max(float(np.average(values, weights=weights)), 0.0)
    return delay


def _speeds(log_ratio: Array, owner: Array, segments: int) -> Array:
    """Median log ratio of each segment, drawn towards their mean as far as chance explains the spread; mean 0.

    The shrinkage is that of empirical Bayes for normal means with known variances (Morris 1983, JASA 78): without it,
    chance in the medians would pass for a wavering host.
    """
    count = np.bincount(owner, minlength=segments)
    present = count > 0
    raw = np.array([np.median(log_ratio[owner == s]) if present[s] else 0.0 for s in range(segments)])
    centred = log_ratio - raw[owner]
    sd = _MAD_TO_SD * float(np.median(np.abs(centred)))
    chance = _MEDIAN_VARIANCE * sd**2 / np.maximum(count, 1)
    mean = float(np.average(raw[present], weights=count[present]))
    if present.sum() < 2:
        return np.zeros(segments)
    between = max(float(np.var(raw[present], ddof=1)) - float(chance[present].mean()), 0.0)
    share = np.where(present, between / (between + chance) if between > 0.0 else 0.0, 0.0)
    shrunk: Array = share * (raw - mean)
    return shrunk - float(np.average(shrunk, weights=np.maximum(count, 1e-9)))
