"""Which side runs which rate at which place of a quad: nothing of a place may be left to one side.

What ran just before a segment may leave something behind for it, so where in a quad each side has its higher rate may
not hang together with the side.
"""

from collections import Counter

import pytest

from harness.calibrate.cells import Cell
from harness.measurement.bench import Quad
from harness.measurement.quads import abba_order
from harness.measurement.rates import prepare_quad, refine
from tests.unit.harness.measurement.simulated_sides import simulated_sides

Place = tuple[str, str]
"""Side, and which of its two rates."""
REPEATED = (1, 6)


@pytest.fixture(scope="module")
def quads() -> list[list[Place]]:
    """What ran at each place of eight quads, and of two that repeat void ones."""
    cell = Cell(name="md1", sizes="fixed:1", noise=0.15)
    bench, sides = simulated_sides(cell)
    ran = []
    for quad in (Quad(number=number, place=place) for number, place in enumerate([*range(8), *REPEATED])):
        prepare_quad(bench, sides, quad)
        places = []
        for side, half in abba_order(sides, quad.place):
            refine(bench, side, quad, half)
            places.append((side.name, "high" if side.rates_qps[half] == max(side.rates_qps) else "low"))
        ran.append(places)
    return ran


def test_two_quads_in_a_row_are_each_others_mirror(quads: list[list[Place]]) -> None:
    """The same rates in the same order, the sides exchanged: whatever precedes a segment does so for both alike."""
    other = {"baseline": "candidate", "candidate": "baseline"}
    for first, second in zip(quads[:8:2], quads[1:8:2], strict=True):
        assert second == [(other[side], rate) for side, rate in first]


def test_in_four_quads_every_side_runs_every_rate_at_every_place(quads: list[list[Place]]) -> None:
    for four in (quads[:4], quads[4:8]):
        seen = Counter((place, *ran) for quad in four for place, ran in enumerate(quad))
        assert len(seen) == 16
        assert set(seen.values()) == {1}


def test_a_quad_that_repeats_a_void_one_has_its_orders(quads: list[list[Place]]) -> None:
    assert quads[8:] == [quads[place] for place in REPEATED]
