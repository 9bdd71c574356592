"""The figures that the estimator gave when every step of it was plain numpy: it may get faster, not other."""

import math
from typing import Any

import pytest

from harness.calibrate.study import compare_once
from harness.calibrate.table import CELLS

# LBT and interval of the baseline, ratio; seed 0 of the quick budget: one worker, two, a delay, a stage, spells.
FIGURES: dict[str, tuple[float, tuple[float, float], float]] = {
    "md1-s5": (111.79009859647518, (109.48461844059214, 114.14412656505442), 0.9993454474536728),
    "md2-s5-n15": (299.09241508453863, (291.99479400858604, 306.3625605546636), 0.9997664157700753),
    "delay": (60.01468275177883, (57.843907601250805, 62.26692308938643), 0.9970501453993401),
    "stage40": (120.97434366633219, (108.22576517980742, 135.22465561860847), 1.0028219134085168),
    "spells6": (59.97617638267052, (51.939110945838046, 69.25689847167956), 1.0254206161167176),
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
