"""Each bar on either side of its edge, where it is asked, and all intervals together."""

import dataclasses
import math

import pytest

from harness.calibrate.bars import BARS, verdicts
from harness.calibrate.summary import Row

GOOD = Row(
    cell="a", budget="standard", repeats=1000, truth_qps=100.0, truth_ratio=1.0, steady=True, correlation=0.95,
    clumps=50.0, ok=1.0, few_clumps=0.0, regression=0.0, mean_qps=100.0, error=0.001, sd=0.01, covered=0.95, sides=2000,
    overstated=0.02, half_width=0.02, ratio_covered=0.96, ratio_error=0.0, ratio_half_width=0.03, ratios=1000,
    seconds=1.0,
)  # fmt: skip


def _line(**changes: object) -> list[str]:
    row = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    return verdicts([row]).splitlines()[2].strip("| ").split(" | ")


def test_a_good_cell_meets_all() -> None:
    assert _line() == ["a", "1000", "met: +0.10%", "met: 95.0%", "met: 1.00%", "met: 2.0%", "met"]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"error": 0.0101}, 2), ({"error": -0.0101}, 2), ({"covered": 0.909}, 3), ({"sd": 0.0201}, 4),
        ({"overstated": 0.101}, 5), ({"covered": math.nan, "error": math.nan, "sides": 0}, 3),
    ],
)  # fmt: skip
def test_each_bar_can_be_missed(change: dict[str, float], column: int) -> None:
    line = _line(**change)
    assert line[column].startswith("MISSED: ") and line[-1] == "MISSED"


def test_scatter_is_asked_where_the_twin_knows_the_system() -> None:
    assert _line(sd=0.05, overstated=0.3, correlation=0.89)[4:] == ["not asked", "not asked", "met"]
    assert _line(sd=0.05, correlation=0.9)[4] == "MISSED: 5.00%"
    quick = _line(budget="quick", sd=0.04, overstated=0.3, correlation=0.86)
    assert quick[4:] == ["met: 4.00%", "met"] and len(BARS["quick"]) == 3
    assert _line(budget="quick", sd=0.06, correlation=0.84)[4] == "not asked"


def test_a_wavering_cell_is_judged_by_its_ratios() -> None:
    assert _line(steady=False, error=0.3, covered=0.2, sd=0.3)[2:] == [
        "not asked",
        "met: 96.0%",
        *["not asked"] * 2,
        "met",
    ]
    assert _line(steady=False, ratio_covered=0.9)[3] == "MISSED: 90.0%"


def test_few_repeats_are_said_to_be_few() -> None:
    assert _line(repeats=999)[-1] == "met so far" and _line(repeats=999, sd=0.5)[-1] == "MISSED so far"


def test_all_intervals_together() -> None:
    """By hand: (0.95 x 2000 + 0.99 x 200) / 2200 = 95.4 %; a wavering cell has ratios only."""
    rows = [GOOD, dataclasses.replace(GOOD, covered=0.99, sides=200, ratio_covered=1.0, ratios=100)]
    wavers = dataclasses.replace(GOOD, steady=False, covered=0.1, ratio_covered=0.5, ratios=1000)
    said = verdicts([*rows, wavers]).splitlines()[-1]
    assert "in 95.4% of 2200 cases (bar: 93% to 97%): met." in said
    assert f"in {(960 + 100 + 500) / 2100:.1%} of 2100" in said
    assert "MISSED" in verdicts([dataclasses.replace(GOOD, covered=0.975)]).splitlines()[-1]
    assert verdicts([]) == ""
