"""The two sides of a quad share its time by how much each still has to learn."""

import math

import pytest

from harness.calibrate.cells import Cell
from harness.measurement.bench import Quad
from harness.measurement.quads import abba_order
from harness.measurement.rates import prepare_quad, refine
from harness.measurement.side import Side
from tests.unit.harness.measurement.simulated_sides import BUDGET, simulated_sides


def _run(gain: float, seed: int = 1) -> list[Side]:
    cell = Cell(name="heavy", sizes="heavy", noise=0.15)
    bench, sides = simulated_sides(cell, gain, seed)
    for quad in (Quad(number=number, place=number) for number in range(BUDGET.quads)):
        prepare_quad(bench, sides, quad)
        for side, half in abba_order(sides, quad.place):
            refine(bench, side, quad, half)
    return sides


def test_a_faster_side_needs_less_time_from_half_time_on() -> None:
    """Five times the speed shows five times the queries, and a limit that is five times as far away."""
    baseline, candidate = _run(gain=5.0)
    assert baseline.time_factor + candidate.time_factor == pytest.approx(2.0)
    assert 1.2 < baseline.time_factor <= 1.4
    for side in (baseline, candidate):
        for segment in side.refined:
            expected = BUDGET.segment_s * (side.time_factor if segment.quad >= BUDGET.quads // 2 else 1.0)
            planned_s = (segment.planned_ns[-1] - segment.planned_ns[0]) / 1e9
            # The last of a Poisson process lies within some gaps of the end.
            assert planned_s == pytest.approx(expected + BUDGET.settle_s, abs=12.0 / segment.offered_qps)


def test_equal_sides_share_about_equally() -> None:
    """Three quads know little of either spread, so one trial may lean to a side; on the average of five none does."""
    sides = [_run(gain=1.0, seed=seed) for seed in range(5)]
    leaning = [math.log(baseline.time_factor / candidate.time_factor) for baseline, candidate in sides]
    assert sum(leaning) / len(leaning) == pytest.approx(0.0, abs=0.4)
