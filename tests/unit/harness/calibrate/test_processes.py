"""The truth of the process cells, and their table."""

import math

import numpy as np
import pytest

from harness.calibrate.processes import process_table, truth_qps
from harness.trial import Sla

MS = 1e6


def test_exponential_gaps_have_the_lbt_of_the_closed_form() -> None:
    """M/M/1 with delay d: mu - ln(100) / (limit - d)."""
    gaps = -np.log(1.0 - (np.arange(200_000) + 0.5) / 200_000) * 5.0 * MS
    median = float(np.median(gaps))
    assert truth_qps(gaps, median, Sla(limit_ms=50.0)) == pytest.approx(200.0 - math.log(100.0) / 0.05, rel=3e-3)
    delayed = truth_qps(gaps, median + 2.0 * MS, Sla(limit_ms=50.0))
    assert delayed == pytest.approx(200.0 - math.log(100.0) / 0.048, rel=3e-3)


def test_the_table_counts_what_holds_the_truth() -> None:
    def side(lbt: float) -> dict[str, object]:
        return {"truth": 100.0, "lbt": lbt, "ci": [lbt * 0.97, lbt * 1.03], "status": "ok"}

    run = {"cell": "md1", "seed": 1, "null_p99_ms": 0.3, "ratio": {"value": 1.05, "ci": [1.01, 1.09]}}
    text = process_table([{**run, "baseline": side(101.0), "candidate": side(106.0)}])
    assert "| md1 | 1 | baseline | 100.0 | 101.0 | +1.00% | [98.0, 104.0] | yes | ok | 0.30 |" in text
    assert "1 of 2 intervals hold the truth; 1 of 1 ratios of a system to itself exclude 1." in text
