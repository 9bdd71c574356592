"""Traces by name: trial's seed, purpose and index give the same queries at the same unit-rate moments to anyone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from harness.traffic.arrivals import QueryTrace, make_trace
from harness.traffic.query_sizes import LARGEST
from zoo.schema import Int64

HELD_OUT_SEEDS = (0x5EED_0F_A_C0DE_0001, 0x5EED_0F_A_C0DE_0002, 0x5EED_0F_A_C0DE_0003)
"""Of the traces of a certificate. Fixed here, the same for every trial, and drawn for nothing else."""
HELD_OUT_PURPOSE = "certificate"


def trace_seed(seed: int, purpose: str, index: int) -> int:
    """Seed of one trace: the first 8 bytes of SHA-256("seed/purpose/index"), so that anyone can make it again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()[:8], "big")


def any_groups() -> Int64:
    """Groups that hold every query. When a query arrives, and its size, do not depend on the groups of the data."""
    return np.array([0, LARGEST], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTrace:
    """The endless trace that trial's seed, purpose and index name; ``sizes`` as in ``query_sizes.pmf``."""

    seed: int
    purpose: str
    index: int
    sizes: str

    def first(self, count: int, groups: Int64) -> QueryTrace:
        """Its first ``count`` queries; ``groups`` as in ``zoo.schema.Split``. ConfigurationError as ``make_trace``."""
        return make_trace(self._number, count, self.sizes, groups)

    @property
    def _number(self) -> int:
        """Seed of the random numbers. ValueError for a held-out trace that does not exist."""
        if self.purpose != HELD_OUT_PURPOSE:
            return trace_seed(self.seed, self.purpose, self.index)
        if self.index >= len(HELD_OUT_SEEDS):
            raise ValueError(f"there is no held-out trace {self.index}, only {len(HELD_OUT_SEEDS)}")
        return HELD_OUT_SEEDS[self.index]

    def until(self, mean: float, groups: Int64) -> QueryTrace:
        """The queries that arrive before the moment ``mean`` of the unit-rate process, at least one."""
        trace = self.first(math.ceil(mean + 6.0 * math.sqrt(mean) + 16), groups)
        return trace.cut(0, max(1, int(np.searchsorted(trace.unit_arrivals, mean))))
