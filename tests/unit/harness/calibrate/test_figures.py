"""The figures that the estimator gave when every step of it was plain numpy: it may get faster, not other."""

from typing import Any

import pytest

from harness.calibrate.study import compare_once
from harness.calibrate.table import CELLS

# LBT and interval of the baseline, ratio; seed 0 of the quick budget: one worker, two, a delay, a stage, spells.
FIGURES: dict[str, tuple[float, tuple[float, float], float]] = {
    "md1-s5": (111.44330853744546, (108.90654798833505, 114.03915785763884), 1.0030159830936307),
    "md2-s5-n15": (298.17836598041526, (291.0450104377226, 305.48655620322114), 1.0021498338423136),
    "delay": (59.709044497956, (57.87572973635844, 61.6004327153252), 1.0047516685692746),
    "stage40": (116.28387616824023, (78.83792349496393, 139.36177143800063), 1.0072909901922706),
    "spells6": (60.539627639289726, (51.643486060121646, 70.96822453924055), 1.0317273752103502),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_repeat_has_the_figures_that_it_had(name: str) -> None:
    """To 1e-9: on another processor numpy's elementary functions may differ in their last bit."""
    (cell,) = (cell for cell in CELLS if cell.name == name)
    found: dict[str, Any] = compare_once(cell, "quick", 0)
    lbt, interval, ratio = FIGURES[name]
    assert found["baseline"]["lbt"] == pytest.approx(lbt, rel=1e-9)
    assert found["baseline"]["ci"] == pytest.approx(interval, rel=1e-9)
    assert found["ratio"]["value"] == pytest.approx(ratio, rel=1e-9)
