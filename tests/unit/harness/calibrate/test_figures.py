"""The figures that the estimator gives with every step of it in plain numpy: it may get faster, not other."""

import math
from typing import Any

import pytest

from harness.calibrate.study import compare_once
from harness.calibrate.table import CELLS

# LBT and interval of the baseline, ratio; seed 0 of the quick budget: one worker, two, a delay, a stage, spells.
FIGURES: dict[str, tuple[float, tuple[float, float], float]] = {
    "md1-s5": (112.63080785484685, (109.9129828215237, 115.41583671361573), 0.9964836605683175),
    "md2-s5-n15": (298.10139059396397, (291.23027744539917, 305.1346166804916), 1.0128015586225951),
    "delay": (60.311973994011204, (58.18752739949748, 62.51398486277143), 0.9803296131792949),
    "stage40": (133.37874892452234, (95.86719316651912, 185.903690654824), 0.8270310440368752),
    "spells6": (57.66030115257251, (48.014414921679915, 69.24400379403875), 1.0062618903015303),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_repeat_has_the_figures_that_it_had(name: str) -> None:
    """To a thousandth of the interval: without AVX512 numpy's elementary functions differ in their last bit, and a
    ratio of few late queries moved by 5e-5 of its value, 0.05 % of its interval."""
    (cell,) = (cell for cell in CELLS if cell.name == name)
    found: dict[str, Any] = compare_once(cell, "quick", 0)
    lbt, interval, ratio = FIGURES[name]
    near = 1e-3 * math.log(interval[1] / interval[0]) / 2
    assert found["baseline"]["lbt"] == pytest.approx(lbt, rel=near)
    assert found["baseline"]["ci"] == pytest.approx(interval, rel=near)
    assert found["ratio"]["value"] == pytest.approx(ratio, rel=near)
