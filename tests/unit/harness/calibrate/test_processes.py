"""The truth of the process cells."""

import math

import numpy as np
import pytest

from harness.calibrate.processes import truth_qps
from harness.trial import Sla

MS = 1e6


def test_exponential_gaps_have_the_lbt_of_the_closed_form() -> None:
    """M/M/1 with delay d: mu - ln(100) / (limit - d)."""
    gaps = -np.log(1.0 - (np.arange(200_000) + 0.5) / 200_000) * 5.0 * MS
    median = float(np.median(gaps))
    assert truth_qps(gaps, median, Sla(limit_ms=50.0)) == pytest.approx(200.0 - math.log(100.0) / 0.05, rel=3e-3)
    delayed = truth_qps(gaps, median + 2.0 * MS, Sla(limit_ms=50.0))
    assert delayed == pytest.approx(200.0 - math.log(100.0) / 0.048, rel=3e-3)
