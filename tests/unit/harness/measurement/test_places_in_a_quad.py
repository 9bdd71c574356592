"""Which side runs which rate at which place of a quad: nothing of a place may be left to one side.

A host that has been worked hard is slower for a while (its hypervisor takes back what was used too much), so what ran
just before a segment matters, and with it where in the quad each side has its higher rate.
"""

from collections import Counter

import pytest

from harness.calibrate.cells import Cell
from harness.calibrate.simulated import SimulatedBench
from harness.measurement.bench import Quad
from harness.measurement.quads import abba_order
from harness.measurement.rates import prepare_quad, refine, search_rate
from harness.measurement.side import Side
from harness.options import BUDGETS
from harness.sut.process import SideInfo
from optimizations.contract import Dispatch

Place = tuple[str, str]
"""Side, and which of its two rates."""


@pytest.fixture(scope="module")
def quads() -> list[list[Place]]:
    """What ran at each place of eight quads."""
    cell = Cell(name="md1", sizes="fixed:1", noise=0.15)
    bench = SimulatedBench(cell=cell, budget=BUDGETS["quick"], seed=1, gains={"baseline": 1.0, "candidate": 1.0})
    info = SideInfo(report={}, start_s=0.0, pid=0, rss_bytes=0)
    sides = [
        Side(name=name, info=info, workers=1, dispatch=Dispatch(), table=bench.closed_table(name))
        for name in ("baseline", "candidate")
    ]
    for side in sides:
        search_rate(bench, side)
    ran = []
    for quad in (Quad(number=number, traces=number) for number in range(8)):
        prepare_quad(bench, sides, quad)
        places = []
        for side, half in abba_order(sides, quad.number):
            refine(bench, side, quad, half)
            places.append((side.name, "high" if side.rates_qps[half] == max(side.rates_qps) else "low"))
        ran.append(places)
    return ran


def test_two_quads_in_a_row_are_each_others_mirror(quads: list[list[Place]]) -> None:
    """The same rates in the same order, the sides exchanged: whatever precedes a segment does so for both alike."""
    other = {"baseline": "candidate", "candidate": "baseline"}
    for first, second in zip(quads[::2], quads[1::2], strict=True):
        assert second == [(other[side], rate) for side, rate in first]


def test_in_four_quads_every_side_runs_every_rate_at_every_place(quads: list[list[Place]]) -> None:
    for four in (quads[:4], quads[4:]):
        seen = Counter((place, *ran) for quad in four for place, ran in enumerate(quad))
        assert len(seen) == 16
        assert set(seen.values()) == {1}
