"""The calibration's own truths, its simulated bench, and its arithmetic."""

import math

import numpy as np
import pytest

from harness.calibrate.cells import Cell, host_speed, staged_latency
from harness.calibrate.simulated import SimulatedBench
from harness.calibrate.summary import summarise
from harness.calibrate.table import CELLS
from harness.calibrate.truth import truth_qps
from harness.estimate.twin import simulate
from harness.measurement.bench import Stretch
from harness.options import BUDGETS
from harness.traffic.query_sizes import pmf

MS = 1e6


def test_the_truth_of_exponential_service_is_the_closed_form() -> None:
    """M/M/1: P(latency > t) = exp(-(mu - lambda) t), so the LBT is mu - ln(100) / limit."""
    cell = Cell(name="mm1", slack=10.0, exponential=True)
    assert truth_qps(cell) == pytest.approx(200.0 - math.log(100.0) / 0.05, rel=2e-3)
    assert truth_qps(cell, gain=5.0) == pytest.approx(1000.0 - math.log(100.0) / 0.05, rel=2e-3)


@pytest.mark.parametrize("name", ["heavy-s5-n15", "stalls", "delay", "md2-s5-n15", "spells6"])
def test_at_the_truth_one_query_in_a_hundred_is_late(name: str) -> None:
    """A simulation of 2 million queries at the stated LBT, apart from the code that found it."""
    cell = next(cell for cell in CELLS if cell.name == name)
    rng, n = np.random.default_rng(1), 2_000_000
    table = pmf(cell.sizes)
    sizes = rng.choice(table.size, n, p=table)
    service = cell.mean_ns(sizes) * cell.noise_factors(rng, n)
    service += (rng.random(n) < cell.stall_share) * cell.stall_ms * MS
    arrivals = np.cumsum(rng.exponential(1e9 / truth_qps(cell), n))
    speed = host_speed(rng, cell, float(arrivals[-1]) / 1e9)
    service *= speed[(arrivals / 1e9 / 0.05).astype(int)]
    latency = simulate(arrivals, service, cell.workers) + cell.delay_ms * MS
    assert np.mean(latency > cell.sla.limit_ms * MS) == pytest.approx(0.01, rel=0.08)


def test_one_query_ahead_is_looked_up_beside_the_compute() -> None:
    """By hand: the third query is taken when the second one gets the worker."""
    at_once = np.zeros(3)
    assert staged_latency(at_once, np.full(3, 1.0), np.full(3, 2.0)).tolist() == [3.0, 5.0, 7.0]
    assert staged_latency(at_once, np.full(3, 1.0), np.full(3, 0.5)).tolist() == [1.5, 2.0, 3.0]
    assert staged_latency(np.array([0.0, 9.0]), np.full(2, 1.0), np.full(2, 2.0)).tolist() == [3.0, 3.0]
    rng = np.random.default_rng(4)
    arrivals, service = np.cumsum(rng.exponential(1.2, (2, 500)), axis=1), rng.exponential(1.0, (2, 500))
    np.testing.assert_allclose(staged_latency(arrivals, 0.0 * service, service), simulate(arrivals, service))
    together = staged_latency(arrivals, 0.3 * service, 0.7 * service)
    for trace in range(2):
        alone = staged_latency(arrivals[trace], 0.3 * service[trace], 0.7 * service[trace])
        np.testing.assert_array_equal(alone, together[trace])
    assert (staged_latency(arrivals, 0.3 * service, 0.7 * service) <= simulate(arrivals, service) + 1e-9).all()


def test_the_host_wavers_as_it_says() -> None:
    cell = Cell(name="w", host_sd=0.2, host_memory_s=2.0)
    logs = np.log(host_speed(np.random.default_rng(2), cell, 20_000.0))
    assert logs.std() == pytest.approx(0.2, rel=0.05)
    lag = round(2.0 / 0.05)
    assert np.corrcoef(logs[:-lag], logs[lag:])[0, 1] == pytest.approx(math.exp(-1.0), abs=0.05)
    assert set(host_speed(np.random.default_rng(2), Cell(name="steady"), 10.0)) == {1.0}


def test_both_sides_run_the_same_trace_with_noise_of_their_own() -> None:
    cell = Cell(name="x", sizes="heavy", noise=0.15)
    bench = SimulatedBench(cell=cell, budget=BUDGETS["quick"], seed=3, gains={"a": 1.0, "b": 5.0})
    stretch = Stretch(purpose="quad", index=4, rate_qps=60.0, seconds=30.0, quad=2)
    a, b = bench.open_loop("a", stretch), bench.open_loop("b", stretch)
    assert (a.planned_ns == b.planned_ns).all() and (a.sizes == b.sizes).all()
    assert a.planned_ns.size == pytest.approx(1800, abs=4 * math.sqrt(1800))
    assert 4.0 < np.median(a.latency_ns / b.latency_ns) < 20.0


def test_a_row_says_what_its_repeats_say() -> None:
    cell = Cell(name="c", noise=0.05)
    truth = truth_qps(cell)

    def side(factor: float) -> dict[str, object]:
        ci = [truth * factor / 1.02, truth * factor * 1.02]
        return {"status": "ok", "lbt": truth * factor, "ci": ci, "correlation": 0.9, "clumps": 20, "method": "twin"}

    def repeat(ratio: float, seconds: float, baseline: float, candidate: float) -> dict[str, object]:
        interval = {"value": ratio, "ci": [ratio - 0.1, ratio + 0.1]}
        sides = {"baseline": side(baseline), "candidate": side(candidate)}
        return {"budget": "quick", "ratio": interval, "s": seconds, **sides}

    results = [repeat(1.0, 1.0, 1.01, 0.99), repeat(1.2, 3.0, 1.05, 0.95)]
    row = summarise(cell, results)
    assert (row.covered, row.overstated, row.sides, row.ratio_covered, row.seconds) == (0.5, 0.25, 4, 0.5, 2.0)
    assert row.error == pytest.approx(np.mean(np.log([1.01, 0.99, 1.05, 0.95])))
    assert row.half_width == pytest.approx(0.02)
