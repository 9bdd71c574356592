"""The queueing twin against closed forms, a naive event loop and hand-worked traces."""

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.estimate.fifo import FEW_TRACES
from harness.estimate.twin import (
    DispatchedService,
    ServiceTable,
    fit_service_table,
    simulate,
    simulate_dispatch,
    unit_trace,
)
from harness.traffic.query_sizes import pmf
from optimizations.contract import Dispatch

MS = 1e6


def _naive_fifo(arrivals: np.ndarray, service: np.ndarray, workers: int) -> np.ndarray:
    free, latency = [0.0] * workers, []
    for a, s in zip(arrivals, service, strict=True):
        done = max(heapq.heappop(free), a) + s
        heapq.heappush(free, done)
        latency.append(done - a)
    return np.array(latency)


@given(st.integers(1, 4), st.integers(0, 10_000), st.floats(0.2, 3.0))
@settings(max_examples=60)
def test_simulation_equals_a_naive_event_loop(workers: int, seed: int, load: float) -> None:
    rng = np.random.default_rng(seed)
    arrivals, service = np.cumsum(rng.exponential(MS, 200)), rng.exponential(MS * load, 200)
    assert simulate(arrivals, service, workers) == pytest.approx(_naive_fifo(arrivals, service, workers), rel=1e-9)


@pytest.mark.parametrize("workers", [1, 3])
def test_leading_axes_are_independent_traces(workers: int) -> None:
    rng = np.random.default_rng(1)
    arrivals, service = np.cumsum(rng.exponential(MS, 150)), rng.exponential(2 * MS, (2, 4, 150))
    together = simulate(arrivals, service, workers)
    assert together.shape == (2, 4, 150)
    assert together[1, 2] == pytest.approx(_naive_fifo(arrivals, service[1, 2], workers), rel=1e-9)


def test_mm1_sojourn_tail() -> None:
    """P(sojourn > t) = exp(-(mu - lambda) t) at load 0.7, within 5 standard errors of 60 batch means."""
    rng = np.random.default_rng(2)
    arrivals, service = np.cumsum(rng.exponential(10 * MS, 1_200_000)), rng.exponential(7 * MS, 1_200_000)
    late = (simulate(arrivals, service) > 60 * MS)[20_000:-20_000].reshape(58, -1).mean(axis=1)
    expected = math.exp(-(1 / 7 - 1 / 10) * 60)
    assert abs(late.mean() - expected) < 5 * late.std(ddof=1) / math.sqrt(58)
    assert late.std(ddof=1) / math.sqrt(58) < 0.03 * expected


@pytest.mark.parametrize("workers", [2, 4])
def test_mmc_wait_tail_is_erlang_c(workers: int) -> None:
    """P(wait > t) = C(c, a) exp(-(c mu - lambda) t), 128 traces at load 0.8."""
    rng = np.random.default_rng(3)
    mean, offered = 7 * MS, 0.8 * workers
    gaps, service = rng.exponential(mean / offered, (128, 8000)), rng.exponential(mean, (128, 8000))
    wait = simulate(np.cumsum(gaps, axis=1), service, workers) - service
    terms = [offered**k / math.factorial(k) for k in range(workers)]
    busy = offered**workers / math.factorial(workers) / (1 - 0.8)
    erlang_c = busy / (sum(terms) + busy)
    for t_ms in (0.0, 10.0, 30.0):
        share = (wait[:, 1000:] > t_ms * MS + 1e-3).mean(axis=1)
        expected = erlang_c * math.exp(-(workers - offered) * t_ms / 7)
        assert abs(share.mean() - expected) < 5 * share.std(ddof=1) / math.sqrt(128)


def test_mean_wait_is_pollaczek_khinchine() -> None:
    rng = np.random.default_rng(4)
    service = rng.choice([1.0, 4.0, 30.0], (40, 50_000), p=[0.6, 0.3, 0.1]) * MS
    mean, second = 4.8, 0.6 + 0.3 * 16 + 0.1 * 900
    wait = simulate(np.cumsum(rng.exponential(mean / 0.6 * MS, (40, 50_000)), axis=1), service) - service
    per_trace = wait[:, 2000:].mean(axis=1) / MS
    expected = 0.6 / mean * second / (2 * 0.4)
    assert abs(per_trace.mean() - expected) < 5 * per_trace.std(ddof=1) / math.sqrt(40)


def _dispatched(
    arrivals: np.ndarray, sizes: np.ndarray, by_samples: np.ndarray, dispatch: Dispatch, workers: int = 1
) -> np.ndarray:
    service = DispatchedService(by_samples=by_samples, factor=np.ones(len(sizes)), dispatch=dispatch)
    return simulate_dispatch(arrivals, sizes, service, workers)


def test_dispatch_without_split_or_merge_is_fifo() -> None:
    rng = np.random.default_rng(5)
    arrivals, sizes = np.cumsum(rng.exponential(3 * MS, 400)), rng.integers(1, 100, 400)
    service_of = 0.5 * MS + np.arange(101) * 0.1 * MS
    for workers in (1, 3):
        expected = simulate(arrivals, service_of[sizes], workers)
        assert _dispatched(arrivals, sizes, service_of, Dispatch(), workers) == pytest.approx(expected)


def test_large_queries_are_split_over_workers() -> None:
    """70 samples in parts of 32, 32 and 6 on two workers at 1 ms a sample: the rest starts when the first part ends."""
    service_of = np.arange(201) * MS
    latency = _dispatched(np.array([0.0, MS]), np.array([70, 10]), service_of, Dispatch(split=32), 2)
    assert latency.tolist() == [38 * MS, 41 * MS]


def test_waiting_queries_are_merged() -> None:
    """The first is served alone; the three that wait then make one batch of 30 samples; the fifth comes too late."""
    service_of = 10 * MS + np.arange(201) * 0.1 * MS
    arrivals = np.array([0.0, 1, 2, 3, 12]) * MS
    latency = _dispatched(arrivals, np.array([10, 10, 10, 10, 10]), service_of, Dispatch(batch=4))
    assert latency / MS == pytest.approx([11.0, 23.0, 22.0, 21.0, 11 + 13 + 11 - 12])


def test_a_worker_waits_for_company_up_to_the_limit() -> None:
    """The fourth arrives at 43 while the third is served (42 to 47), is taken at 47 and waits alone until 49."""
    service_of = np.full(201, 5 * MS)
    arrivals = np.array([0.0, 1, 40, 43, 90]) * MS
    latency = _dispatched(arrivals, np.full(5, 10), service_of, Dispatch(batch=2, wait_ms=2.0))
    assert latency / MS == pytest.approx([6.0, 5.0, 7.0, 11.0, 7.0])


def test_a_batch_has_the_noise_of_its_first_query() -> None:
    service = DispatchedService(
        by_samples=np.arange(201) * MS, factor=np.array([2.0, 3.0, 5.0]), dispatch=Dispatch(batch=2)
    )
    latency = simulate_dispatch(np.array([0.0, 1, 2]) * MS, np.array([4, 1, 1]), service)
    assert latency.tolist() == [8 * MS, (8 - 1 + 2 * 3) * MS, (8 - 2 + 2 * 3) * MS]


def test_service_table_returns_the_means_and_the_noise_that_it_was_fed() -> None:
    rng = np.random.default_rng(6)
    sizes = np.repeat([1, 10, 32, 100], 4000)
    noise = np.exp(rng.normal(-0.02, 0.2, sizes.size))
    table = fit_service_table(sizes, (2.0 + 0.1 * sizes) * MS * noise)
    assert table.sizes.tolist() == [1, 10, 32, 100]
    assert table.mean(np.array([1, 21, 100])) / MS == pytest.approx([2.1, 4.1, 12.0], rel=0.015)
    assert table.log_sd == pytest.approx(0.2, rel=0.05)
    assert table.spread.mean() == pytest.approx(1.0)
    tens = np.full(50_000, 10.0)
    assert table.draw((4,), tens, 7).mean() == pytest.approx(1.0, abs=0.005)
    assert (table.draw((5,), tens, 7) == table.draw((5,), tens, 7)).all()


def test_service_table_groups_many_sizes() -> None:
    sizes = np.repeat(np.arange(1, 101), 10)
    table = fit_service_table(sizes, (1.0 + 0.2 * sizes) * MS)
    assert table.sizes.size <= 24
    assert table.mean(np.arange(1, 101)) / MS == pytest.approx(1.0 + 0.2 * np.arange(1, 101), rel=1e-6)


def test_service_table_extends_linearly_beyond_its_sizes() -> None:
    table = ServiceTable(sizes=np.array([10.0, 20.0]), mean_ns=np.array([2 * MS, 3 * MS]), spread=np.ones(1))
    assert table.mean(np.array([1, 10, 40])) / MS == pytest.approx([1.1, 2.0, 5.0])
    steep = ServiceTable(sizes=np.array([10.0, 20.0]), mean_ns=np.array([2 * MS, 8 * MS]), spread=np.ones(1))
    assert steep.mean(np.array([1, 5])) / MS == pytest.approx([0.2, 1.0])  # in proportion: no negative fixed cost


def test_the_mean_over_the_mix_of_sizes_is_unbiased() -> None:
    """A third of the smallest sizes lies below the first knot: cut off flat, it cost 0.4 % of the mean."""
    share, rng = pmf("heavy"), np.random.default_rng(1)
    sizes, errors = np.flatnonzero(share), []
    for _ in range(40):
        drawn = rng.choice(share.size, 10_000, p=share)
        table = fit_service_table(drawn, (0.5 + 0.16 * drawn) * MS * rng.lognormal(-0.02, 0.2, drawn.size))
        errors.append(float(table.mean(sizes) @ share[sizes]) / ((0.5 + 0.16 * sizes) @ share[sizes] * MS) - 1.0)
    assert abs(np.mean(errors)) < 3.0 * np.std(errors) / math.sqrt(len(errors)) < 0.002


def test_a_rare_stall_keeps_its_length() -> None:
    """Averaged with its neighbours, 0.2 % of stalls cost 3 % of an LBT."""
    sizes = np.repeat(np.arange(1, 101), 120)
    service = (1.0 + 0.2 * sizes) * MS
    stalled = np.arange(7, sizes.size, 500)
    service[stalled] += 30 * MS
    table = fit_service_table(sizes, service)
    assert table.counts.min() > 400
    late = [float(np.mean(table.mean(np.array([n]))[0] * table.values(n) > 28 * MS)) for n in range(1, 101)]
    # A group scales the stall to each of its sizes, hence not exactly.
    assert np.mean(late) == pytest.approx(stalled.size / sizes.size, rel=0.05)


def test_service_table_refuses_bad_samples() -> None:
    for service in ([1.0], [1.0, 0.0], [1.0, np.inf]):
        with pytest.raises(ValueError, match="service table"):
            fit_service_table(np.ones(len(service)), np.array(service))


def test_unit_trace_is_poisson_with_the_given_sizes() -> None:
    arrivals, sizes = unit_trace(200_000, np.array([1, 5]), np.array([0.25, 0.75]), seed=8)
    gaps = np.diff(arrivals) / 1e9
    assert gaps.mean() == pytest.approx(1.0, abs=0.01)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.01)
    assert (sizes == 5).mean() == pytest.approx(0.75, abs=0.005)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_few_and_many_traces_are_simulated_to_the_same_bits(workers: int) -> None:
    """A block of many traces against each of its traces alone, which goes another way."""
    rng = np.random.default_rng(workers)
    arrivals, service = np.cumsum(rng.exponential(1.0, (FEW_TRACES + 1, 400)), axis=-1), rng.exponential(2.0, 400)
    together = simulate(arrivals, service, workers)
    for trace, latency in zip(arrivals, together, strict=True):
        np.testing.assert_array_equal(simulate(trace, service, workers), latency)
