"""ABBA quads of training: both sides in turn over the same steps, then inputs and compute apart (R9, R16)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.clock import process_cpu_ns
from harness.estimate.comparison import quads_to_repeat
from harness.host.validity import between, others_share, sample_host, void_reasons_of_training
from harness.options import Budget
from harness.training.bench import TrainingBench
from harness.training.common_start import CommonStart, Comparison
from harness.training.pacing import MOST, Pacing

APART_ROUNDS = 2
READ_FACTOR = 4
"""Inputs that are read apart, in those of a timed stretch: reading is the smaller part of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """What the host did in each quad, as the record keeps it."""

    host: list[dict[str, Any]] = field(default_factory=list)

    @property
    def shares(self) -> dict[int, tuple[float, float]]:
        """See ``host_shares``."""
        return host_shares(self.host)


def host_shares(host: Sequence[Mapping[str, Any]]) -> dict[int, tuple[float, float]]:
    """By quad, the shares of core time that the hypervisor took, and that processes used which are no side."""
    return {int(seen["quad"]): (float(seen["steal_share"]), float(seen["others_share"])) for seen in host}


def void_evidence(shares: Mapping[int, tuple[float, float]]) -> dict[int, tuple[str, ...]]:
    """Why each quad is void, () where it counts: what tells from outside of a training."""
    return {quad: void_reasons_of_training(*seen) for quad, seen in shares.items()}


def run_quads(
    bench: TrainingBench, budget: Budget, start: CommonStart, comparison: Comparison | None = None
) -> TrainingLog:
    """All quads, then the void ones again, on other steps; at most a quarter of all (R16). ``comparison``: of where
    their bursts end."""
    log, count = TrainingLog(), int(budget.quads)
    title = f"{count} quads of 2 x {start.pacing.bursts} bursts of {start.pacing.timed} steps"
    bench.observer.stage(title, total=quad_seconds(bench, budget, start.pacing, count))
    for number in range(count):
        _one_quad(bench, number, log, start, comparison)
    again = quads_to_repeat(void_evidence(log.shares))
    if again:
        planned = quad_seconds(bench, budget, start.pacing, len(again))
        bench.observer.stage(f"{len(again)} void quads again", total=planned)
    for number in range(count, count + len(again)):
        _one_quad(bench, number, log, start, comparison)
    return log


def quad_seconds(bench: TrainingBench, budget: Budget, pacing: Pacing, quads: int) -> float:
    """Planned seconds of all steps, those that do not count included, if all sides were as slow as the slowest."""
    taken = (pacing.bursts + 1) * pacing.steps / pacing.half
    return quads * 2 * len(bench.position) * budget.segment_s * taken


def abba(sides: list[str], quad: int) -> list[tuple[str, int]]:
    """(side, half) in ABBA order, BAAB in every other quad; AA for one side alone."""
    if len(sides) == 1:
        return [(sides[0], 0), (sides[0], 1)]
    first, second = sides if quad % 2 == 0 else sides[::-1]
    return [(first, 0), (second, 0), (second, 1), (first, 1)]


def _one_quad(
    bench: TrainingBench, number: int, log: TrainingLog, start: CommonStart, comparison: Comparison | None
) -> None:
    sides = list(bench.position)
    own_ns = -_own_cpu_ns(bench)
    before = sample_host({side: bench.sides.pids(side) for side in sides})
    for side, half in abba(sides, number):
        start.train(bench, side, (number, half), comparison)
    host = between(before, sample_host({side: bench.sides.pids(side) for side in sides}))
    own_ns += _own_cpu_ns(bench)
    log.host.append({"quad": number, **host, "others_share": others_share(host, own_ns)})
    if comparison is not None:
        comparison.compare(number)


def _own_cpu_ns(bench: TrainingBench) -> int:
    """CPU time of all sides so far, and of this process: it gives orders while they wait."""
    return process_cpu_ns(os.getpid()) + sum(bench.sides.cpu_ns(side) for side in bench.position)


def run_apart(bench: TrainingBench, budget: Budget, pacing: Pacing) -> None:
    """Inputs alone, and steps whose inputs are there, in ABBA order."""
    sides = list(bench.position)
    bench.observer.stage("inputs and compute apart", total=2 * APART_ROUNDS * len(sides) * budget.segment_s)
    for number in range(APART_ROUNDS):
        for side, _ in abba(sides, number):
            bench.read(side, "warm", pacing.settle)
            bench.read(side, "read", READ_FACTOR * pacing.half)
            bench.compute(side, min(pacing.half, MOST))
