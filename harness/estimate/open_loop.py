"""What the open loop itself tells about service: work per query, the delay before it, the speed of each segment.

The work (``harness.estimate.work``) gives the twin a new table of service times, and each segment its own speed and
spells. All from the referee's own stamps. Pure functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.estimate.longrun import QueueTwin
from harness.estimate.medians import grouped_medians, median
from harness.estimate.replay import SegmentObservation
from harness.estimate.service_table import SampledSizes
from harness.estimate.spells import Residuals, SegmentSpells, find_spells, no_spells, spell_process
from harness.estimate.twin import fit_service_table
from harness.estimate.work import Work, common_delay_ns, work_of

Array = npt.NDArray[Any]

MOST_OUT_OF_ORDER = 0.01
"""Above this share of answers that overtook an older one the system is no FIFO queue, and its work stays unknown."""
FEWEST_QUERIES = 60
_PASSES = 2
_LEAST_SPARE = 0.05
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
    at_once = [work_of(segment, twin.workers) for segment in segments]
    table, delay_ns, speeds, works, sizes = twin.table, 0.0, one_speed, at_once, none
    for _ in range(_PASSES):
        delay_ns = common_delay_ns(at_once, _apart(table.mean(_sizes(at_once)), at_once))
        works = [work.after(delay_ns).apart(table) for work in at_once]
        sound = np.concatenate([work.ns for work in works]) > 0.0
        if sound.sum() < FEWEST_QUERIES or np.mean(~sound) > MOST_OUT_OF_ORDER:
            return unknown
        works = [work.in_order() for work in works]
        before, sizes, ns = sizes, _sizes(works), np.concatenate([work.ns for work in works])
        if not np.array_equal(before, sizes):
            samples = SampledSizes(np.asarray(sizes, dtype=np.float64))
        speeds = _speeds(np.log(ns / table.mean(sizes)), _owner(works), len(works))
        table = samples.fit(ns / np.exp(speeds[_owner(works)]))
    fitted = dataclasses.replace(twin, table=table, delay_ns=delay_ns)
    load = float(np.mean([segment.offered_qps for segment in segments])) / fitted.capacity_qps
    log_ratios = _apart(np.log(ns / table.mean(sizes)) - speeds[_owner(works)], works)
    residuals = [
        Residuals(planned_ns=work.planned_ns, log_ratio=log_ratio, kind=kind)
        for work, log_ratio, kind in zip(works, log_ratios, _apart(table.group(sizes), works), strict=True)
    ]
    # By time reversal, the likeliest way to a long queue grows it about as fast as it would empty by itself.
    spells = find_spells(residuals, limit_ns / max(1.0 - load, _LEAST_SPARE))
    log_factors = [s.log_factor[s.block_of(work.planned_ns)] for work, s in zip(works, spells, strict=True)]
    work_ns = ns / np.exp(speeds[_owner(works)] + np.concatenate(log_factors))
    return OpenLoop(
        twin=dataclasses.replace(fitted, table=samples.fit(work_ns), spells=spell_process(spells)),
        log_speeds=speeds, known=True, spells=tuple(spells), sizes=sizes, work_ns=work_ns, owner=_owner(works),
    )  # fmt: skip


def _sizes(works: Sequence[Work]) -> Array:
    return np.concatenate([work.sizes for work in works])


def _apart(values: Array, works: Sequence[Work]) -> list[Array]:
    """Values of the queries of all segments, segment by segment."""
    return np.split(values, np.cumsum([work.ns.size for work in works])[:-1])


def _owner(works: Sequence[Work]) -> Array:
    return np.repeat(np.arange(len(works)), [work.ns.size for work in works])


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
    sd = _MAD_TO_SD * median(np.abs(centred))
    chance = _MEDIAN_VARIANCE * sd**2 / np.maximum(count, 1)
    mean = float(np.average(raw[present], weights=count[present]))
    if present.sum() < 2:
        return np.zeros(segments)
    between = max(float(np.var(raw[present], ddof=1)) - float(chance[present].mean()), 0.0)
    share = np.where(present, between / (between + chance) if between > 0.0 else 0.0, 0.0)
    shrunk: Array = share * (raw - mean)
    return shrunk - float(np.average(shrunk, weights=np.maximum(count, 1e-9)))
