"""The numerical M/G/1 queue against closed forms."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from harness.estimate.mg1 import (
    LateAt,
    ServiceAtoms,
    StationaryWait,
    edge_tails,
    forgets_within,
    late_fraction,
    lbt_qps,
    log_slope,
    relaxation_ns,
    service_atoms,
)

MS = 1e6


def _fixed(ms: float) -> ServiceAtoms:
    return service_atoms(np.array([ms * MS]), np.array([1.0]))


def _exponential(mean_ms: float) -> ServiceAtoms:
    """Exact masses of bands of a hundredth of the mean, up to 40 means, each at its centre."""
    edges = np.arange(4001) / 100
    mass = -np.diff(np.exp(-edges))
    return service_atoms((edges[1:] - 0.005) * mean_ms * MS, mass / mass.sum())


def md1_wait_cdf(load: float, x: float) -> float:
    """P(wait <= x services) of M/D/1: Erlang 1909; Tijms, A First Course in Stochastic Models, eq. 9.6.26."""
    with localcontext(prec=80):
        rho, t, total, factorial = Decimal(load), Decimal(x), Decimal(0), Decimal(1)
        for k in range(int(x) + 1):
            factorial *= max(k, 1)
            total += (rho * (k - t)) ** k / factorial * (rho * (t - k)).exp() if k < t or k == 0 else Decimal(0)
        return float((1 - rho) * total)


@pytest.mark.parametrize("load", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("slack", [1.5, 2.5, 5.3, 20.7])
def test_md1_late_fraction_is_erlangs(load: float, slack: float) -> None:
    expected = 1 - md1_wait_cdf(load, slack - 1)
    assert late_fraction(_fixed(5.0), load / 5e-3, slack * 5 * MS) == pytest.approx(expected, rel=2e-4, abs=1e-9)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_mm1_sojourn_has_an_exponential_tail(load: float) -> None:
    """P(sojourn > t) = exp(-(mu - lambda) t)."""
    for t_ms in (5.0, 20.0, 60.0):
        expected = math.exp(-(1 - load) * t_ms / 5.0)
        assert late_fraction(_exponential(5.0), load / 5e-3, t_ms * MS) == pytest.approx(expected, rel=3e-3)


def test_mean_wait_is_pollaczek_khinchine() -> None:
    """E[W] = lambda E[S^2] / (2 (1 - rho)), the integral of the tail, for a three-point service time."""
    service = service_atoms(np.array([1.0, 4.0, 30.0]) * MS, np.array([0.6, 0.3, 0.1]))
    rate = 0.6 / (service.mean_ns / 1e9)
    second = float(service.ns**2 @ service.probability)
    expected = rate / 1e9 * second / (2 * 0.4)
    horizon = 2000 * MS
    t, wait = np.linspace(0, horizon, 400_001), StationaryWait(service, horizon)
    assert np.trapezoid(wait.tail(rate, t), t) == pytest.approx(expected, rel=1e-3)
    assert wait.tail(rate, np.array([0.0]))[0] == pytest.approx(0.6, rel=1e-9)


def test_a_tail_at_fixed_moments_is_interpolated_as_numpy_does() -> None:
    """At the edges of cells, between them, before 0 and at the horizon; the first moments alone need fewer cells."""
    service, rng = _exponential(5.0), np.random.default_rng(1)
    wait = StationaryWait(service, 50 * MS)
    edges = np.concatenate(([0.0], (np.arange(8192) + 0.5) * (50 * MS / 4096)))
    t = np.concatenate((edges[:4096:7], rng.uniform(-5 * MS, 50 * MS, 500), [50 * MS, np.nextafter(edges[9], 0.0)]))
    for rate in (20.0, 150.0, 199.0):
        load = np.array([rate * service.mean_ns / 1e9])
        wanted = np.where(t < 0.0, 1.0, np.interp(t, edges, edge_tails(wait.transform[None], load, edges.size)[0]))
        np.testing.assert_allclose(wait.tail(rate, t), wanted, rtol=1e-14)
        assert wait.tail(rate, t[:5]).tolist() == wait.tail(rate, t)[:5].tolist()


def test_queues_at_many_limits_and_rates_are_solved_as_each_alone() -> None:
    """Among them one beyond its capacity, which is always late, and one with a shorter horizon."""
    queues = [StationaryWait(_exponential(5.0), 50 * MS), StationaryWait(_exponential(9.0), 40 * MS)]
    limits = [np.array([12.0, 50.0, 33.3]) * MS, np.array([40.0]) * MS]
    late = LateAt(queues, limits)
    for rates in ([90.0, 60.0], [150.0, 120.0], [250.0, 20.0]):
        for queue, own, rate, found in zip(queues, limits, rates, late(rates), strict=True):
            assert found == pytest.approx([queue.late_fraction(rate, float(x)) for x in own], rel=1e-12)


@pytest.mark.parametrize("slack", [2.0, 5.0, 20.0, 40.0])
def test_lbt_of_md1_is_the_root_of_erlangs_formula(slack: float) -> None:
    rate = lbt_qps(_fixed(5.0), slack * 5 * MS, 0.01)
    low, high = 1e-3, 0.999
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - md1_wait_cdf(middle, slack - 1) < 0.01 else (low, middle)
    # At a whole-numbered slack the wait's distribution has its kink on the limit: the grid's error is largest there.
    assert rate * 5e-3 == pytest.approx(low, rel=2e-3 if slack == 2 else 2e-4)


def test_lbt_of_mm1_in_closed_form() -> None:
    """exp(-(mu - lambda) t) = 0.01 at lambda = mu - ln(100) / t, with slope lambda t."""
    service, t_ms = _exponential(5.0), 50.0
    expected = 200.0 - math.log(100) / 50e-3
    assert lbt_qps(service, t_ms * MS, 0.01) == pytest.approx(expected, rel=1e-3)
    assert log_slope(service, expected, t_ms * MS) == pytest.approx(expected * 50e-3, rel=5e-3)


def test_lbt_is_zero_when_an_idle_server_is_late_and_scales_with_time() -> None:
    service = service_atoms(np.array([1.0, 80.0]) * MS, np.array([0.98, 0.02]))
    assert lbt_qps(service, 60 * MS, 0.01) == 0.0
    assert lbt_qps(service, 90 * MS, 0.05) > 0.0
    rate = lbt_qps(_fixed(5.0), 25 * MS, 0.01)
    assert lbt_qps(_fixed(5.0).scaled(2.0), 50 * MS, 0.01) == pytest.approx(rate / 2, rel=1e-6)


def test_overload_is_always_late() -> None:
    assert late_fraction(_fixed(5.0), 250.0, 1000 * MS) == pytest.approx(1.0)
    assert relaxation_ns(_fixed(5.0), 250.0) == math.inf


@pytest.mark.parametrize("load", [0.2, 0.6, 0.9])
def test_relaxation_time_of_mm1(load: float) -> None:
    """1 / (sqrt(mu) - sqrt(lambda))^2."""
    expected = 5 * MS / (1 - math.sqrt(load)) ** 2
    assert relaxation_ns(_exponential(5.0), load / 5e-3) == pytest.approx(expected, rel=0.02)


def test_relaxation_time_of_md1() -> None:
    """Decay rate theta - lambda (e^(theta D) - 1) is largest at theta = -ln(rho) / D: (rho - 1 - ln rho) / D."""
    for load in (0.3, 0.9):
        expected = 5 * MS / (load - 1 - math.log(load))
        assert relaxation_ns(_fixed(5.0), load / 5e-3) == pytest.approx(expected, rel=1e-3)


def test_service_atoms_refuse_what_is_no_distribution() -> None:
    for ns, weights in [([], []), ([0.0], [1.0]), ([1.0, 2.0], [0.5, 0.4])]:
        with pytest.raises(ValueError, match="positive"):
            service_atoms(np.array(ns), np.array(weights))


def test_a_queue_forgets_within_a_time_only_if_it_does() -> None:
    """What is sure is true, and is sure for most: up to half the load at which it becomes false."""
    for service in (_fixed(5.0), _exponential(5.0)):
        sure, true = (
            [load for load in np.arange(0.05, 1.2, 0.05) if says(load / 5e-3)]
            for says in (
                lambda rate, s=service: forgets_within(s, rate, 200 * MS),
                lambda rate, s=service: relaxation_ns(s, rate) < 200 * MS,
            )
        )
        assert set(sure) <= set(true) and max(true) < 1.0 and max(sure) > 0.5
