"""The long run of the twin against closed forms, and the simulated path against the exact one."""

import dataclasses
import math

import numpy as np
import pytest

from harness.estimate.longrun import QueueTwin, ramp_ns
from harness.estimate.spells import SpellProcess
from harness.estimate.twin import ServiceTable
from harness.traffic.query_sizes import pmf
from harness.trial import Sla
from optimizations.contract import Dispatch

MS = 1e6
EXPONENTIAL = -np.log1p(-(np.arange(2000) + 0.5) / 2000)


def _twin(spread: np.ndarray, workers: int = 1, dispatch: Dispatch | None = None) -> QueueTwin:
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([5 * MS]), spread=spread / spread.mean())
    one = np.array([1])
    return QueueTwin(table=table, sizes=one, probability=np.ones(1), workers=workers, dispatch=dispatch or Dispatch())


def _heavy(workers: int = 1, dispatch: Dispatch | None = None) -> QueueTwin:
    sizes = np.arange(1, 101)
    table = ServiceTable(sizes=np.array([1.0, 100.0]), mean_ns=np.array([1.0, 16.0]) * MS, spread=np.ones(1))
    return QueueTwin(
        table=table, sizes=sizes, probability=pmf("heavy")[1:], workers=workers, dispatch=dispatch or Dispatch()
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_lbt_of_mmc_by_erlang_c(workers: int) -> None:
    """P(sojourn > t) of M/M/c in closed form; its root at 1 % against the simulated long run."""
    mu, t = 200.0, 0.05

    def late(rate: float) -> float:
        a = rate / mu
        busy = a**workers / math.factorial(workers) * workers / (workers - a)
        c = busy / (sum(a**k / math.factorial(k) for k in range(workers)) + busy)
        drain = workers * mu - rate
        return (1 - c) * math.exp(-mu * t) + c * (mu * math.exp(-drain * t) - drain * math.exp(-mu * t)) / (mu - drain)

    low, high = 1.0, workers * mu - 1e-6
    for _ in range(60):
        low, high = ((low + high) / 2, high) if late((low + high) / 2) < 0.01 else (low, (low + high) / 2)
    assert _twin(EXPONENTIAL, workers).lbt_qps(Sla(limit_ms=50.0)) == pytest.approx(low, rel=0.01)


def test_the_simulated_long_run_agrees_with_the_exact_one() -> None:
    """Dispatch(split=1000) changes nothing, but takes the simulated path."""
    exact, simulated = _heavy(), _heavy(dispatch=Dispatch(split=1000))
    for limit_ms in (30.0, 60.0):
        rate = exact.lbt_qps(Sla(limit_ms=limit_ms))
        assert simulated.lbt_qps(Sla(limit_ms=limit_ms)) == pytest.approx(rate, rel=0.03)
        late = exact.late_fraction(1.2 * rate, limit_ms * MS)
        assert simulated.late_fraction(1.2 * rate, limit_ms * MS) == pytest.approx(late, rel=0.15)


def test_scaling_service_and_limit_together_scales_the_rate() -> None:
    for twin in (_heavy(), _heavy(workers=2)):
        rate = twin.lbt_qps(Sla(limit_ms=40.0))
        assert twin.lbt_qps(Sla(limit_ms=60.0), scale=1.5) == pytest.approx(rate / 1.5, rel=1e-3)


def test_two_workers_beat_one_and_merging_beats_capacity() -> None:
    sla = Sla(limit_ms=60.0)
    one, two = _heavy(), _heavy(workers=2)
    assert two.lbt_qps(sla) > 2 * one.lbt_qps(sla)
    flat = QueueTwin(
        table=ServiceTable(sizes=np.array([1.0, 100.0]), mean_ns=np.array([5.0, 5.5]) * MS, spread=np.ones(1)),
        sizes=np.array([10]), probability=np.ones(1), dispatch=Dispatch(batch=8),
    )  # fmt: skip
    assert flat.capacity_qps < flat.lbt_qps(sla) < 8 * flat.capacity_qps


def test_lbt_is_zero_where_one_query_alone_is_too_slow() -> None:
    assert _heavy().lbt_qps(Sla(limit_ms=5.0)) == 0.0
    assert _heavy(workers=2).lbt_qps(Sla(limit_ms=5.0)) == 0.0


def test_slope_of_mm1_is_rate_times_limit() -> None:
    """P = exp(-(mu - lambda) t): d log P / d log lambda = lambda t."""
    assert _twin(EXPONENTIAL).log_slope(100.0, Sla(limit_ms=25.0)) == pytest.approx(2.5, rel=0.01)


def test_ramp_is_five_relaxation_times_but_at_least_a_second() -> None:
    """M/D/1 of 5 ms at load 0.9 relaxes in 5 ms / (rho - 1 - ln rho) = 0.933 s."""
    twin = _twin(np.ones(1))
    assert ramp_ns(twin, 180.0) == pytest.approx(5 * 5e6 / (0.9 - 1 - math.log(0.9)), rel=1e-3)
    assert ramp_ns(twin, 20.0) == 1e9


def test_a_limit_beyond_every_simulated_queue_is_met_up_to_the_capacity() -> None:
    """Four workers, a limit of 200 services: on traces that start empty nothing is late even at full load."""
    twin = dataclasses.replace(_twin(np.ones(1), workers=4), spells=SpellProcess(log_sd=0.05))
    assert twin.lbt_qps(Sla(limit_ms=1000.0)) == pytest.approx(twin.capacity_qps)


@pytest.mark.parametrize("spell_sd", [0.0, 0.06])
def test_the_table_of_many_scales_is_the_late_fraction_at_each(spell_sd: float) -> None:
    twin = dataclasses.replace(_heavy(), spells=SpellProcess(log_sd=spell_sd), delay_ns=0.5 * MS)
    loads, scales = np.array([0.3, 0.6, 0.8]), np.array([0.8, 1.0, 1.3])
    table = twin.late_table(loads, 40.0 * MS, scales)
    for i, scale in enumerate(scales):
        each = [twin.late_fraction(float(x) * twin.capacity_qps / scale, 40.0 * MS, float(scale)) for x in loads]
        assert table[i] == pytest.approx(each, rel=3e-3)
