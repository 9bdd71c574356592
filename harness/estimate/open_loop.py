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
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.spells import Residuals, SegmentSpells, find_spells, no_spells, spell_process
from harness.estimate.stats import beyond_chance, grouped_medians
from harness.estimate.twin import ServiceTable, fit_service_table

Array = npt.NDArray[Any]

MOST_OUT_OF_ORDER = 0.01
"""Above this share of answers that overtook an older one the system is no FIFO queue, and its work stays unknown."""
FEWEST_QUERIES = 60
_FEWEST_OF_A_KIND = 10
_PASSES = 2
_LEAST_SPARE = 0.05
_QUICKEST = 0.005
_MEDIAN_VARIANCE = np.pi / 2.0
_MAD_TO_SD = 1.4826
_UNSEEN_SD, _SPELL_SHARE = 0.005, 0.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenLoop:
    """The twin with its service as the open loop shows it.

    log_speeds: (segments,) log of each segment's service time over the table's (mean 0 by number of queries). known:
    whether work could be inferred; if not, the twin is as it was and the speeds are 0. spells: of each segment. sizes,
    work_ns, owner: (n,) the queries behind the table, their work at its speed and the segments that they belong to.
    """

    twin: QueueTwin
    log_speeds: Array
    known: bool
    spells: tuple[SegmentSpells, ...]
    sizes: Array
    work_ns: Array
    owner: Array

    @property
    def log_sd(self) -> float:
        """How well the work fixes the scale of the service that makes queries late; 0: the work is unknown.

        Half a per cent for what the stamps do not show, and two fifths of what the host wavers by within a segment,
        since spells shorter than a block are seen in part: on recorded sides that wavered by 1 to 14 %, late queries
        asked for corrections of about that size.
        """
        return math.hypot(_UNSEEN_SD, _SPELL_SHARE * self.twin.spells.log_sd) if self.known else 0.0

    def without(self, segment: int) -> QueueTwin:
        """The twin, its table and spells refitted to all other segments."""
        rest = self.owner != segment
        if not self.known or np.count_nonzero(rest) < FEWEST_QUERIES:
            return self.twin
        others = [spells for i, spells in enumerate(self.spells) if i != segment]
        table = fit_service_table(self.sizes[rest], self.work_ns[rest])
        return dataclasses.replace(self.twin, table=table, spells=spell_process(others))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """Of one segment's counted, answered queries: planned moment, size, work in ns (not positive where an answer came
    before an older one's), latency in ns, and how long before its arrival a worker was free (negative: it waited)."""

    planned_ns: Array
    sizes: Array
    ns: Array
    latency_ns: Array
    idle_ns: Array

    def apart(self, table: ServiceTable) -> Work:
        """Answers that a referee which was itself held up saw at one moment share their work as the table expects."""
        if not self.ns.size:
            return self
        done = self.planned_ns + self.latency_ns
        at = np.cumsum(np.diff(done, prepend=done[0]) != 0.0)
        expected = table.mean(self.sizes)
        shared = np.bincount(at, self.ns)[at] * expected / np.bincount(at, expected)[at]
        return dataclasses.replace(self, ns=np.where(np.bincount(at)[at] > 1, shared, self.ns))

    def in_order(self) -> Work:
        """The queries whose work is positive."""
        sound = self.ns > 0.0
        return Work(**{field.name: getattr(self, field.name)[sound] for field in dataclasses.fields(self)})


def work_of(segment: SegmentObservation, workers: int, delay_ns: float = 0.0) -> Work:
    """Work of each counted query that was answered, if the system is a FIFO queue with so many workers."""
    planned = np.asarray(segment.planned_ns, dtype=np.float64)
    done = planned + np.asarray(segment.latency_ns, dtype=np.float64)
    free = _free_at(done, workers)
    ns = done - np.maximum(planned + delay_ns, free)
    keep = segment.counted & np.isfinite(done)
    return Work(
        planned_ns=planned[keep], sizes=np.asarray(segment.sizes)[keep], ns=ns[keep], latency_ns=(done - planned)[keep],
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


def open_loop_twin(segments: Sequence[SegmentObservation], twin: QueueTwin, limit_ns: float) -> OpenLoop:
    """Refit the twin's table, noise and delay to these segments, and find the speed of each and the spells within.

    limit_ns: of the SLA; a spell that makes queries late lasts about as long as a queue takes to grow so far.
    Unknown where queries are split or merged, where answers overtake one another, and below 60 answered queries; with
    ``stage``, too, where queries that waited are done without their lookups, and the others with them.
    """
    none, one_speed = np.zeros(0), np.zeros(len(segments))
    unknown = OpenLoop(
        twin=twin, log_speeds=one_speed, known=False, spells=(no_spells(),) * len(segments), sizes=none, work_ns=none,
        owner=none,
    )  # fmt: skip
    if not twin.plain or twin.dispatch.stage or not segments:
        return unknown
    table, delay_ns, speeds, works = twin.table, 0.0, one_speed, list[Work]()
    for _ in range(_PASSES):
        delay_ns = _delay(segments, twin.workers, table)
        works = [work_of(segment, twin.workers, delay_ns).apart(table) for segment in segments]
        sound = np.concatenate([work.ns for work in works]) > 0.0
        if sound.sum() < FEWEST_QUERIES or np.mean(~sound) > MOST_OUT_OF_ORDER:
            return unknown
        works = [work.in_order() for work in works]
        ratios = [np.log(work.ns / table.mean(work.sizes)) for work in works]
        speeds = _speeds(np.concatenate(ratios), _owner(works), len(works))
        table = _table(works, [np.full(work.ns.size, speed) for work, speed in zip(works, speeds, strict=True)])
    fitted = dataclasses.replace(twin, table=table, delay_ns=delay_ns)
    load = float(np.mean([segment.offered_qps for segment in segments])) / fitted.capacity_qps
    residuals = [
        Residuals(
            planned_ns=work.planned_ns, log_ratio=np.log(work.ns / table.mean(work.sizes)) - speed,
            kind=table.group(work.sizes),
        )
        for work, speed in zip(works, speeds, strict=True)
    ]  # fmt: skip
    # By time reversal, the likeliest way to a long queue grows it about as fast as it would empty by itself.
    spells = find_spells(residuals, limit_ns / max(1.0 - load, _LEAST_SPARE))
    factors = [
        speed + s.log_factor[s.block_of(work.planned_ns)] for work, speed, s in zip(works, speeds, spells, strict=True)
    ]
    return OpenLoop(
        twin=dataclasses.replace(fitted, table=_table(works, factors), spells=spell_process(spells)),
        log_speeds=speeds, known=True, spells=tuple(spells), sizes=np.concatenate([work.sizes for work in works]),
        work_ns=np.concatenate([work.ns / np.exp(f) for work, f in zip(works, factors, strict=True)]),
        owner=_owner(works),
    )  # fmt: skip


def _owner(works: Sequence[Work]) -> Array:
    return np.repeat(np.arange(len(works)), [work.ns.size for work in works])


def _table(works: Sequence[Work], log_factors: Sequence[Array]) -> ServiceTable:
    """The service table at the mean speed; ``log_factors`` of the queries of each segment are taken out."""
    sizes = np.concatenate([work.sizes for work in works])
    return fit_service_table(sizes, np.concatenate([w.ns / np.exp(f) for w, f in zip(works, log_factors, strict=True)]))


def _delay(segments: Sequence[SegmentObservation], workers: int, table: ServiceTable) -> float:
    """Delay in ns that makes queries which found the system idle as fast as those which waited; 0 if few did either.

    It is part of every latency, so it is at most what the quickest took. What chance alone would show is taken off.
    """
    delay = 0.0
    works = [work_of(segment, workers) for segment in segments]
    expected = [(work, table.mean(work.sizes), work.idle_ns >= 0.0) for work in works]
    for _ in range(3):
        values, weights, quickest = [], [], []
        for work, mean, idle in expected:
            busy = work.idle_ns < -delay
            fewest = min(np.count_nonzero(idle), np.count_nonzero(busy))
            if fewest < _FEWEST_OF_A_KIND:
                continue
            speed = float(np.median(work.ns[busy] / mean[busy]))
            values.append(float(np.median(work.latency_ns[idle] - speed * mean[idle])))
            weights.append(fewest)
            quickest.append(float(np.quantile(work.latency_ns[idle], _QUICKEST)))
        if not values:
            return 0.0
        delay = min(_mean_beyond_chance(np.array(values), np.array(weights)), min(quickest))
    return delay


def _mean_beyond_chance(values: Array, weights: Array) -> float:
    """Weighted mean of independent values, as far as it is more than their scatter explains; of one value itself."""
    mean = float(np.average(values, weights=weights))
    if values.size < 2:
        return max(mean, 0.0)
    error = float(np.sqrt(np.sum((weights * (values - mean)) ** 2) * values.size / (values.size - 1)) / weights.sum())
    return beyond_chance(mean, error)


def _speeds(log_ratio: Array, owner: Array, segments: int) -> Array:
    """Median log ratio of each segment, drawn towards their mean as far as chance explains the spread; mean 0.

    The shrinkage is that of empirical Bayes for normal means with known variances (Morris 1983, JASA 78): without it,
    chance in the medians would pass for a wavering host.
    """
    count = np.bincount(owner, minlength=segments)
    present = count > 0
    each = grouped_medians(log_ratio, owner)
    raw = np.zeros(segments)
    raw[owner] = each
    centred = log_ratio - each
    sd = _MAD_TO_SD * float(np.median(np.abs(centred)))
    chance = _MEDIAN_VARIANCE * sd**2 / np.maximum(count, 1)
    mean = float(np.average(raw[present], weights=count[present]))
    if present.sum() < 2:
        return np.zeros(segments)
    between = max(float(np.var(raw[present], ddof=1)) - float(chance[present].mean()), 0.0)
    share = np.where(present, between / (between + chance) if between > 0.0 else 0.0, 0.0)
    shrunk: Array = share * (raw - mean)
    return shrunk - float(np.average(shrunk, weights=np.maximum(count, 1e-9)))
