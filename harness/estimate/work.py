"""How long every query of the open loop was worked on, and the delay before that.

A FIFO queue starts query k when it has arrived and a worker is free; its answers' times therefore show how long every
query was worked on, whether or not one was late (Lindley 1952, read backwards):

    work_k = done_k - max(planned_k + delay, free_k),   free_k: when the first of the workers ran out of older queries

The delay is what an idle system adds to the work before it starts (transport, waking up): the difference between
queries that found it idle and queries that found it busy. All from the referee's own stamps. Pure functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.fifo import first_free
from harness.estimate.medians import median, quantile
from harness.estimate.replay import SegmentObservation
from harness.estimate.stats import beyond_chance
from harness.estimate.twin import ServiceTable

Array = npt.NDArray[Any]

_FEWEST_OF_A_KIND = 10
_QUICKEST = 0.005


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """Of one segment's counted, answered queries: planned moment, size, work in ns (not positive where an answer came
    before an older one's), latency in ns, how long before its arrival a worker was free (negative: it waited), when it
    was done and when a worker was free."""

    planned_ns: Array
    sizes: Array
    ns: Array
    latency_ns: Array
    idle_ns: Array
    done_ns: Array
    free_ns: Array

    def after(self, delay_ns: float) -> Work:
        """The same queries, each begun so long after its arrival at the earliest."""
        started = np.maximum(self.planned_ns + delay_ns, self.free_ns)
        return dataclasses.replace(self, ns=self.done_ns - started) if delay_ns else self

    def apart(self, table: ServiceTable) -> Work:
        """Answers that a referee which was itself held up saw at one moment share their work as the table expects."""
        done = self.planned_ns + self.latency_ns
        later = done[1:] != done[:-1]
        if later.all():
            return self
        at = np.concatenate(([0], np.cumsum(later)))
        expected = table.mean(self.sizes)
        shared = np.bincount(at, self.ns)[at] * expected / np.bincount(at, expected)[at]
        return dataclasses.replace(self, ns=np.where(np.bincount(at)[at] > 1, shared, self.ns))

    def in_order(self) -> Work:
        """The queries whose work is positive."""
        sound = self.ns > 0.0
        if sound.all():
            return self
        return Work(**{field.name: getattr(self, field.name)[sound] for field in dataclasses.fields(self)})


def work_of(segment: SegmentObservation, workers: int) -> Work:
    """Work of each counted query that was answered, if the system is a FIFO queue with so many workers."""
    planned = np.asarray(segment.planned_ns, dtype=np.float64)
    done = planned + np.asarray(segment.latency_ns, dtype=np.float64)
    answered = np.isfinite(done)
    free = first_free(np.where(answered, done, -np.inf), workers)
    keep = segment.counted & answered
    planned, done, free, sizes = (x[keep] for x in (planned, done, free, np.asarray(segment.sizes)))
    return Work(
        planned_ns=planned, sizes=sizes, ns=done - np.maximum(planned, free), latency_ns=done - planned,
        idle_ns=planned - free, done_ns=done, free_ns=free,
    )  # fmt: skip


def common_delay_ns(works: Sequence[Work], expected_ns: Sequence[Array]) -> float:
    """Delay in ns that makes queries which found the system idle as fast as those which waited; 0 if few did either.

    It is part of every latency, so it is at most what the quickest took. What chance alone would show is taken off.
    expected_ns: mean service by size of the queries of each segment.
    """
    delay, asked = 0.0, [_IdleAndBusy(*each) for each in zip(works, expected_ns, strict=True)]
    for _ in range(3):
        seen = [found for each in asked if (found := each.at(delay))]
        if not seen:
            return 0.0
        values, weights, quickest = zip(*seen, strict=True)
        found = min(_mean_beyond_chance(np.array(values), np.array(weights)), min(quickest))
        if found == delay:  # and so it would stay
            break
        delay = found
    return delay


class _IdleAndBusy:
    """Queries of one segment which found the system idle, and those which waited. mean: (n,) what their sizes take."""

    def __init__(self, work: Work, mean: Array) -> None:
        self._work, self._mean, self._busy, self._delay = work, mean, -1, 0.0
        idle = work.idle_ns >= 0.0
        self._latency, self._idle_mean = work.latency_ns[idle], mean[idle]

    @cached_property
    def _quickest(self) -> float:
        return quantile(self._latency, _QUICKEST)

    def at(self, delay: float) -> tuple[float, int, float] | None:
        """The delay that these show where those which waited longer than ``delay`` did wait, its weight, and the
        latency of the quickest; None where there are too few."""
        waited = self._work.idle_ns < -delay
        busy = int(np.count_nonzero(waited))
        fewest = min(self._latency.size, busy)
        if fewest < _FEWEST_OF_A_KIND:
            return None
        if busy != self._busy:  # else they are the same ones
            speed = median(self._work.ns[waited] / self._mean[waited])
            self._busy, self._delay = busy, median(self._latency - speed * self._idle_mean)
        return self._delay, fewest, self._quickest


def _mean_beyond_chance(values: Array, weights: Array) -> float:
    """Weighted mean of independent values, as far as it is more than their scatter explains; of one value itself."""
    mean = float(np.average(values, weights=weights))
    if values.size < 2:
        return max(mean, 0.0)
    error = float(np.sqrt(np.sum((weights * (values - mean)) ** 2) * values.size / (values.size - 1)) / weights.sum())
    return beyond_chance(mean, error)
