"""Slow and fast spells within a segment, read from the work of its queries. Pure functions.

A host wavers on every scale of time. What lasts as long as a queue takes to grow to the limit makes queries late
together, which noise of each query's own does not. So a segment is cut into blocks about that long. By how much their
means scatter more than chance explains is the variance of the spells (DerSimonian & Laird 1986, "Meta-analysis in
clinical trials"); each block's own spell is its mean, drawn to that of its segment as far as chance explains it (Morris
1983).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness.estimate.medians import Groups, grouped_medians
from harness.estimate.stats import beyond_chance

Array = npt.NDArray[Any]

FEWEST_PER_BLOCK = 16
FEWEST_BLOCKS = 8
"""A spell that fills an eighth of its segment is the segment's own speed."""
_MAD_TO_SD = 1.4826
_CLIP = 3.0
_LEAST_SD = 1e-3
_MOST_KEPT = 0.9
_MOST_MEMORIES, _PARTS = 4.0, 4
_SMALL = 0.01
"""Spells of at most a hundredth count as lasting ones: at slack 20 that moves the LBT by 0.4 %, no more than a
simulation is off by chance, and the formula is a hundred times quicker."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residuals:
    """Of one segment's queries: planned_ns from its start, ascending, log of work over what table and segment speed
    expect, kind: number of the query's noise group; all (n,)."""

    planned_ns: Array
    log_ratio: Array
    kind: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SpellProcess:
    """Spells in the long run: normal log factors of service with standard deviation ``log_sd``, each ``length_ns``
    long (inf: longer than any queue), neighbours correlated by ``keep``."""

    log_sd: float = 0.0
    length_ns: float = math.inf
    keep: float = 0.0

    @property
    def lasting(self) -> bool:
        """Whether a spell outlasts any queue."""
        return math.isinf(self.length_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Sums over neighbouring blocks of a segment: product / weight is their covariance, error the product's standard
    error where they have nothing to do with one another."""

    product: float = 0.0
    weight: float = 0.0
    error: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentSpells:
    """Blocks of a segment: first_ns, when each begins; log_factor on service; left_sd, what is open of it: (blocks,).

    excess, weight: sums whose ratio over all segments is the spells' variance; degrees: of freedom of the excess.
    length_ns: of a block.
    """

    first_ns: Array
    log_factor: Array
    left_sd: Array
    excess: float
    weight: float
    degrees: int
    length_ns: float = math.inf
    neighbours: Neighbours = Neighbours()

    def block_of(self, planned_ns: Array) -> Array:
        """Number of the block in which each query was planned; the first one for what came before it."""
        return np.maximum(np.searchsorted(self.first_ns, planned_ns, side="right") - 1, 0)


def no_spells() -> SegmentSpells:
    """A segment of one speed."""
    one = np.zeros(1)
    return SegmentSpells(first_ns=one, log_factor=one, left_sd=one, excess=0.0, weight=0.0, degrees=0)


def spell_log_sd(spells: Sequence[SegmentSpells]) -> float:
    """Standard deviation of log service between spells, over all of these segments; 0 where chance explains it.

    The moment estimate of the variance is drawn to 0 as far as chance explains it: else noisy service would seem to
    waver.
    """
    weight, degrees = math.fsum(s.weight for s in spells), sum(s.degrees for s in spells)
    if weight <= 0.0:
        return 0.0
    by_chance = math.sqrt(2.0 * degrees)  # of the excess: that of a chi-square
    return math.sqrt(beyond_chance(math.fsum(s.excess for s in spells), by_chance) / weight)


def spell_process(spells: Sequence[SegmentSpells]) -> SpellProcess:
    """What spells all of these segments show. Neighbours are correlated as far as chance does not explain it.

    Where they clearly are, the speed wavered within blocks, too, and their means show less of it. Then the spells are
    quarters of a block, as those of an Ornstein-Uhlenbeck process: its means over a memories have
    2 (a - 1 + e^-a) / a^2 of its variance, and neighbours are correlated by (1 - e^-a)^2 / (2 (a - 1 + e^-a)).
    """
    log_sd = spell_log_sd(spells)
    lengths = [s.length_ns for s in spells if math.isfinite(s.length_ns)]
    if log_sd <= _SMALL or not lengths:
        return SpellProcess(log_sd=log_sd)
    near = [s.neighbours for s in spells]
    weight, error = math.fsum(x.weight for x in near), math.hypot(*(x.error for x in near))
    covariance = beyond_chance(math.fsum(x.product for x in near), error) / weight
    keep, length_ns = min(covariance / log_sd**2, _MOST_KEPT), float(np.mean(lengths))
    if keep <= _kept(_MOST_MEMORIES):
        return SpellProcess(log_sd=log_sd, length_ns=length_ns, keep=keep)
    memories = float(optimize.brentq(lambda a: _kept(a) - keep, 1e-3, _MOST_MEMORIES))
    part = memories / _PARTS
    part_sd = log_sd * math.sqrt(_shown(part) / _shown(memories))
    return SpellProcess(log_sd=part_sd, length_ns=length_ns / _PARTS, keep=_kept(part))


def _shown(memories: float) -> float:
    """Share of the variance that means over so many memories have."""
    return 2.0 * (memories - 1.0 + math.exp(-memories)) / memories**2


def _kept(memories: float) -> float:
    """Correlation of such a mean with the next one."""
    return (1.0 - math.exp(-memories)) ** 2 / (2.0 * (memories - 1.0 + math.exp(-memories)))


def find_spells(segments: Sequence[Residuals], length_ns: float) -> list[SegmentSpells]:
    """Spells of every segment, in blocks of at least ``length_ns`` and 16 queries, yet at least 8 of them."""
    edges = [_edges(s.planned_ns, length_ns) for s in segments]
    block = [np.searchsorted(e, s.planned_ns, side="right") - 1 for e, s in zip(edges, segments, strict=True)]
    seen, precision = _clipped(segments, block)
    blocks = [_blocks(*parts) for parts in zip(segments, edges, block, seen, precision, strict=True)]
    variance = spell_log_sd([b.found for b in blocks]) ** 2
    return [b.drawn(variance) for b in blocks]


def _edges(planned_ns: Array, length_ns: float) -> Array:
    """When each block begins; none where there are too few queries."""
    n = planned_ns.size
    if n < FEWEST_BLOCKS * FEWEST_PER_BLOCK:
        return np.zeros(0)
    first, span = float(planned_ns[0]), float(planned_ns[-1] - planned_ns[0])
    count = max(int(min(span / length_ns, n / FEWEST_PER_BLOCK)), FEWEST_BLOCKS)
    return first + span * np.arange(count) / count


def _clipped(segments: Sequence[Residuals], blocks: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Residuals about the median of their kind, and what each tells: one over the variance of its kind's noise.

    Cut at 3 standard deviations about the median of their block: a stall is no spell, but a spell may be deep.
    """
    sizes = [s.log_ratio.size for s in segments]
    log_ratio, kind = (np.concatenate(x) for x in zip(*((s.log_ratio, s.kind) for s in segments), strict=True))
    kinds = Groups(kind)
    log_ratio -= kinds.medians(log_ratio)
    ends = np.cumsum(sizes)[:-1]
    after = np.cumsum([0, *(int(b.max(initial=0)) + 2 for b in blocks[:-1])])  # -1 is no block, of any segment
    level = grouped_medians(log_ratio, np.concatenate([b + 1 + n for b, n in zip(blocks, after, strict=True)]))
    noise = log_ratio - level
    most = _CLIP * _MAD_TO_SD * kinds.medians(np.abs(noise))
    noise = np.clip(noise, -most, most)
    each = [1.0 / max(float(np.var(part)), _LEAST_SD**2) for part in kinds.parts(noise)]
    precision = kinds.spread(np.array(each))
    return np.split(level + noise, ends), np.split(precision, ends)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Blocks:
    """mean, precision: (blocks,) of the clipped residuals."""

    found: SegmentSpells
    mean: Array
    precision: Array

    def drawn(self, variance: float) -> SegmentSpells:
        """The spells themselves, once their variance is known."""
        share = variance * self.precision / (1.0 + variance * self.precision)
        left = np.sqrt(np.divide(share, self.precision, out=np.zeros_like(share), where=self.precision > 0.0))
        empty = self.precision == 0.0
        return SegmentSpells(
            first_ns=self.found.first_ns,
            log_factor=np.where(empty, 0.0, share * self.mean),
            left_sd=np.where(empty, math.sqrt(variance), left),
            excess=self.found.excess,
            weight=self.found.weight,
            degrees=self.found.degrees,
            length_ns=self.found.length_ns,
            neighbours=self.found.neighbours,
        )


def _blocks(segment: Residuals, edges: Array, block: Array, seen: Array, each: Array) -> _Blocks:
    """Means of the residuals by block. seen, each: (n,) the residuals and what each tells."""
    count = edges.size
    if not count:
        return _Blocks(found=no_spells(), mean=np.zeros(1), precision=np.zeros(1))
    span = float(segment.planned_ns[-1] - segment.planned_ns[0])
    precision, total = np.bincount(block, each, count), np.bincount(block, each * seen, count)
    mean = np.divide(total, precision, out=np.zeros(count), where=precision > 0.0)
    mean = mean - float(np.average(mean, weights=precision))
    degrees = int(np.count_nonzero(precision)) - 1
    excess = float(precision @ mean**2) - degrees
    weight = float(precision.sum() - precision @ precision / precision.sum())
    found = SegmentSpells(
        first_ns=edges,
        log_factor=np.zeros(count),
        left_sd=np.zeros(count),
        excess=excess,
        weight=weight,
        degrees=degrees,
        length_ns=span / count,
        neighbours=_neighbours(mean, precision),
    )
    return _Blocks(found=found, mean=mean, precision=precision)


def _neighbours(mean: Array, precision: Array) -> Neighbours:
    """Their products; that the blocks' own mean was taken off makes each smaller by a share of their mean square."""
    weight = np.sqrt(precision[:-1] * precision[1:])
    square = float(np.average(mean**2, weights=precision))
    product = float(weight @ (mean[:-1] * mean[1:])) + float(weight.sum()) * square / mean.size
    return Neighbours(product=product, weight=float(weight.sum()), error=square * float(np.sqrt(weight @ weight)))
