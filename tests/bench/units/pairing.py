"""Two forms of one unit, A B B A, in blocks: the ratio of their times and the share of a roof, with intervals.

Times are those of the thread on its core: both forms and the probes run on one thread that waits for nothing, and
what other processes take of the core in between belongs to none of them. The host's speed drifts all the same; A B B A
takes a linear drift out of each quad, and a share compares a block with roof probes of the same block. A block gives
one log ratio, the median of its quads, which a stall does not move. The blocks of a unit are spread over the whole
run, so that they stand for independent measurements: Student's t over a number of blocks that was fixed beforehand.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.clock import thread_cpu_ns
from harness.estimate.stats import Interval, log_t_interval

Form = Callable[..., Any]
PROBES = 3
"""Runs of the roof's probe per block; the median counts. One more comes before them: the forms have cleared what the
probe keeps in the caches."""
MOST_QUADS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long a unit is measured: ``blocks`` blocks of about ``block_ms`` each."""

    blocks: int
    block_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """ratio: the unfused form's time over the fused one's. share: the fused form's rate over the roof's.

    Intervals are two-sided 95 %. Times are medians over blocks; ``roof_rate`` per second, by the probes beside them.
    """

    unfused_us: float
    fused_us: float
    ratio: float
    ratio_ci: Interval
    share: float
    share_ci: Interval
    roof_rate: float
    blocks: int
    quads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """What is timed. inputs: arguments of one call, made anew for every call outside its time.

    roof: runs the probe and returns its rate per second. amount: of the roof's work in one call of a form.
    """

    unfused: Form
    fused: Form
    inputs: Callable[[], tuple[Any, ...]]
    roof: Callable[[], float]
    amount: float
    clock: Callable[[], int] = thread_cpu_ns

    def quad(self) -> tuple[float, float]:
        """Mean ns of the unfused and of the fused form in one A B B A."""
        first, second, third, fourth = (
            self._timed(form) for form in (self.unfused, self.fused, self.fused, self.unfused)
        )
        return (first + fourth) / 2, (second + third) / 2

    def _timed(self, form: Form) -> int:
        arguments = self.inputs()
        started = self.clock()
        form(*arguments)
        return self.clock() - started


class Blocks:
    """The blocks measured so far. ``quads``: in each block, by the time that one takes."""

    def __init__(self, forms: Forms, block_ms: float) -> None:
        self.forms = forms
        forms.quad()
        quad_ns = max(1.0, 2.0 * sum(forms.quad()))
        self.quads = int(np.clip(block_ms * 1e6 / quad_ns, 1, MOST_QUADS))
        self._rows: list[tuple[float, float, float, float]] = []

    def add(self) -> None:
        """Measure one more block."""
        forms = self.forms
        forms.roof()
        rate = float(np.median([forms.roof() for _ in range(PROBES)]))
        forms.quad()  # the probe has cleared what the forms keep in the caches
        times = np.array([forms.quad() for _ in range(self.quads)])
        unfused_ns, fused_ns = np.median(times, axis=0)
        self._rows.append((unfused_ns, fused_ns, float(np.median(np.log(times[:, 0] / times[:, 1]))), rate))

    def result(self) -> Paired:
        """What all blocks together say; at least two."""
        unfused_ns, fused_ns, logs, rates = np.array(self._rows).T
        ratio, ratio_ci = log_t_interval(logs)
        share, share_ci = log_t_interval(np.log(self.forms.amount * 1e9 / fused_ns / rates))
        return Paired(
            unfused_us=float(np.median(unfused_ns)) / 1e3,
            fused_us=float(np.median(fused_ns)) / 1e3,
            ratio=ratio,
            ratio_ci=ratio_ci,
            share=share,
            share_ci=share_ci,
            roof_rate=float(np.median(rates)),
            blocks=len(logs),
            quads=self.quads,
        )


def verdict(interval: Interval, at_least: float) -> str:
    """ "yes" or "no" where the whole interval lies on one side of the bar, else "undecided"."""
    if interval[0] >= at_least:
        return "yes"
    return "no" if interval[1] < at_least else "undecided"


@contextmanager
def collector_off() -> Iterator[None]:
    """A collection is not part of either form."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
