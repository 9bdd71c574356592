"""Two sides of a simulated trial, ready for their quads."""

from harness.calibrate.cells import Cell
from harness.calibrate.simulated import SimulatedBench
from harness.measurement.rates import search_rate
from harness.measurement.side import Side
from harness.options import BUDGETS
from harness.sut.process import SideInfo
from optimizations.contract import Dispatch

BUDGET = BUDGETS["quick"]


def simulated_sides(cell: Cell, gain: float = 1.0, seed: int = 1) -> tuple[SimulatedBench, list[Side]]:
    """Baseline and candidate, whose service is ``gain`` times as fast, after the search of their rates."""
    bench = SimulatedBench(cell=cell, budget=BUDGET, seed=seed, gains={"baseline": 1.0, "candidate": gain})
    info = SideInfo(report={}, start_s=0.0, pid=0, rss_bytes=0)
    sides = [
        Side(name=name, info=info, workers=1, dispatch=Dispatch(), table=bench.closed_table(name))
        for name in ("baseline", "candidate")
    ]
    for side in sides:
        search_rate(bench, side)
    return bench, sides
