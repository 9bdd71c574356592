"""The tabulated late fraction against the exact one, and mixtures of speeds against their definition."""

import math

import numpy as np
import pytest
from scipy import optimize

from harness.estimate.late_surface import LateSurface
from harness.estimate.longrun import QueueTwin
from harness.estimate.twin import ServiceTable
from harness.trial import Sla

MS = 1e6


def _twin(noise: float, workers: int = 1) -> QueueTwin:
    spread = np.exp(noise * np.random.default_rng(1).normal(size=512))
    table = ServiceTable(
        sizes=np.array([1.0, 100.0]), mean_ns=np.array([1.0, 9.0]) * MS, spread=np.sort(spread / spread.mean())
    )
    return QueueTwin(table=table, sizes=np.arange(1, 101), probability=np.full(100, 0.01), workers=workers)


@pytest.mark.parametrize(("noise", "limit_ms"), [(0.0, 15.0), (0.1, 15.0), (0.3, 60.0)])
def test_the_lbt_of_a_speed_is_the_exact_one(noise: float, limit_ms: float) -> None:
    twin, sla = _twin(noise), Sla(limit_ms=limit_ms)
    surface = LateSurface(twin, sla, -0.3, 0.3)
    for x in (-0.3, -0.11, 0.0, 0.07, 0.3):
        assert math.exp(surface.log_lbt(np.array([x]))) == pytest.approx(twin.lbt_qps(sla, math.exp(x)), rel=2e-3)
    many = np.linspace(-0.3, 0.3, 7)
    assert surface.log_lbt_each(many) == pytest.approx([surface.log_lbt(np.array([x])) for x in many], abs=2e-3)


def test_two_workers_agree_with_the_long_simulation() -> None:
    twin, sla = _twin(0.1, workers=2), Sla(limit_ms=20.0)
    surface = LateSurface(twin, sla, -0.1, 0.1)
    assert math.exp(surface.log_lbt(np.zeros(3))) == pytest.approx(twin.lbt_qps(sla), rel=1e-2)


def test_a_wavering_host_is_late_as_often_as_its_speeds_on_average() -> None:
    twin, sla, speeds = _twin(0.1), Sla(limit_ms=20.0), np.array([-0.2, 0.0, 0.05, 0.25])

    def excess(rate: float) -> float:
        return float(np.mean([twin.late_fraction(rate, 20 * MS, math.exp(x)) for x in speeds])) - 0.01

    exact = optimize.brentq(excess, 20.0, 180.0)
    assert math.exp(LateSurface(twin, sla, -0.2, 0.25).log_lbt(speeds)) == pytest.approx(exact, rel=3e-3)


def test_no_rate_where_even_an_idle_system_is_late() -> None:
    surface = LateSurface(_twin(0.0), Sla(limit_ms=8.0), -0.1, 0.1)
    assert surface.log_lbt(np.zeros(2)) == -math.inf
    assert surface.log_lbt_each(np.zeros(2)).tolist() == [-math.inf, -math.inf]


@pytest.mark.parametrize("scale", [-0.35, -0.2, 0.0, 0.049, 0.31])
def test_one_speed_is_read_off_as_many_are(scale: float) -> None:
    """In plain floats, at, between and beyond the tabulated scales and loads."""
    surface = LateSurface(_twin(0.1), Sla(limit_ms=20.0), -0.2, 0.25)
    one = surface._log_late_at(scale)
    for log_rate in np.log([2.0, 40.0, 120.0, 199.0, 260.0]).tolist():
        assert one(log_rate) == pytest.approx(float(surface.log_late(log_rate, np.array([scale]))[0]), rel=1e-14)
