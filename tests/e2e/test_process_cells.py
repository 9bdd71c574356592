"""The calibration's real processes, once through the whole referee."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.calibrate.cells import Cell
from harness.calibrate.processes import BOTH, PROCESS_CELLS, compare_processes
from harness.calibrate.truth import truth_qps

pytestmark = pytest.mark.e2e


def test_a_spinning_process_is_at_most_as_fast_as_its_law(tmp_path: Path) -> None:
    """A process that answers 5 ms after its call has at most the LBT of M/D/1 with 5 ms, whatever the host does.

    There is no bound from below: what a busy host takes from the process is the host's. Where that leaves one gap in
    a hundred beyond the limit, no rate is within it, and the truth is 0.
    """
    (cell,) = (cell for cell in PROCESS_CELLS if cell.name == "md1-s5")
    found = compare_processes(cell, "smoke", 1, tmp_path, Mock())
    exact = truth_qps(Cell(name="md1", slack=5.0))
    assert exact == pytest.approx(112.0, abs=0.5)
    for name in BOTH:
        assert 0.0 <= found[name]["truth"] < 1.001 * exact
        assert found[name]["lbt"] is None or 0.0 <= found[name]["lbt"] < 1.5 * exact
    assert found["null_p99_ms"] > 0.0 and found["steal"] >= 0.0
