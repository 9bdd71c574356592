"""Poisson arrivals and the queries that arrive, from a published seed: the same bits on any machine and numpy.

Uniforms are the top 53 bits of raw PCG64 words, since numpy does not promise stable streams for its distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigurationError
from harness.traffic.query_sizes import draw, pmf
from zoo.schema import Int64, Split

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Queries:
    """What is asked, without when: query q asks for ``samples[offsets[q] : offsets[q + 1]]`` (indices of a split)."""

    query_id: Int64
    samples: Int64
    offsets: Int64

    def __len__(self) -> int:
        return len(self.query_id)

    @property
    def sizes(self) -> Int64:
        """Samples of each query [Q]."""
        return np.diff(self.offsets)

    def drawn(self, chosen: Int64) -> Queries:
        """Query ``chosen[q]`` of these as the q-th, numbered anew."""
        sizes = self.sizes[chosen]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
        samples = self.samples[np.repeat(self.offsets[chosen], sizes) + within]
        return Queries(np.arange(len(chosen), dtype=np.int64), samples, offsets)


@dataclass(frozen=True, slots=True)
class QueryTrace:
    """A unit-rate Poisson process with its queries.

    unit_arrivals float64 [Q]: at rate r, query q arrives ``unit_arrivals[q] / r`` seconds after the start; gaps are
    Exp(1), the first one included. Query q asks for ``sizes[q]`` consecutive samples of group ``group[q]`` from
    ``start[q]`` (relative to the group), wrapping inside the group. query_id numbers the queries of the whole trace.
    """

    query_id: Int64
    unit_arrivals: Float64
    sizes: Int64
    group: Int64
    start: Int64

    def __len__(self) -> int:
        return len(self.sizes)

    def cut(self, first: int, last: int) -> QueryTrace:
        """Queries [first, last) as a trace of its own: its clock starts at the arrival before ``first``."""
        part = slice(first, last)
        zero = self.unit_arrivals[first - 1] if first else 0.0
        return QueryTrace(
            self.query_id[part], self.unit_arrivals[part] - zero, self.sizes[part], self.group[part], self.start[part]
        )

    def planned_ns(self, rate_qps: float) -> Int64:
        """Planned arrivals at ``rate_qps``, int64 ns from the start."""
        return np.rint(self.unit_arrivals * (1e9 / rate_qps)).astype(np.int64)

    def queries(self, groups: Int64) -> Queries:
        """The samples that each query asks for; ``groups`` as in ``zoo.schema.Split``."""
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.sizes, out=offsets[1:])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], self.sizes) + np.repeat(self.start, self.sizes)
        lengths = groups[self.group + 1] - groups[self.group]
        samples = np.repeat(groups[self.group], self.sizes) + within % np.repeat(lengths, self.sizes)
        return Queries(self.query_id, samples, offsets)


def make_trace(seed: int, count: int, distribution: str, groups: Int64) -> QueryTrace:
    """``count`` queries: Exp(1) gaps, sizes of ``distribution`` (see ``query_sizes.pmf``), groups drawn evenly among
    those with at least as many samples as the query asks for, starts evenly within the group.

    Raises ConfigurationError for an unknown distribution, or when no group is large enough.
    """
    gaps, sizing, grouping, starting = (_uniforms(child, count) for child in np.random.SeedSequence(seed).spawn(4))
    table = pmf(distribution)
    sizes = draw(table, sizing)
    lengths = np.diff(groups)
    largest, needed = int(lengths.max(initial=0)), int(np.flatnonzero(table)[-1])
    if largest < needed:
        raise ConfigurationError(
            f"scenario.query_sizes={distribution!r} asks for up to {needed} samples of one group, and the largest "
            f"group of this data set has {largest}: use scenario.query_sizes=uniform:1-{max(1, largest)} or a larger "
            "data set"
        )
    order = np.argsort(lengths, kind="stable")
    first = np.searchsorted(lengths[order], sizes, side="left")
    group = order[first + np.floor(grouping * (len(order) - first)).astype(np.int64)]
    start = np.floor(starting * lengths[group]).astype(np.int64)
    return QueryTrace(np.arange(count, dtype=np.int64), np.cumsum(-np.log1p(-gaps)), sizes, group, start)


def sweep(split: Split, largest: int) -> Queries:
    """Every sample of ``split`` once, in order: queries of at most ``largest`` consecutive samples of one group."""
    pieces = [np.arange(low, high, largest) for low, high in zip(split.groups[:-1], split.groups[1:], strict=True)]
    starts = np.concatenate([*pieces, np.array([len(split)])]).astype(np.int64)
    return Queries(np.arange(len(starts) - 1), np.arange(len(split), dtype=np.int64), starts)


def _uniforms(seed: np.random.SeedSequence, count: int) -> Float64:
    words: npt.NDArray[np.uint64] = np.random.PCG64(seed).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
