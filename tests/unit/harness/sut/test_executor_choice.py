"""executor=auto: which settings are tried, what is measured of each, which rate is predicted, and who is chosen."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.estimate import mg1
from harness.estimate.mg1 import service_atoms
from harness.estimate.twin import ServiceTable, simulate, unit_trace
from harness.sut import executor_choice as choice
from harness.sut.executor_choice import Load, Setting, choose_executor, predicted_lbt, settings
from harness.sut.steps import Steps, one_step
from harness.transport.wire import encode
from harness.trial import Sla
from optimizations.calibration_queries import query_of
from optimizations.contract import Dispatch, Plan, Runtime
from optimizations.plan import first_pipeline
from zoo.configs import WdlConfig
from zoo.schema import Batch, IdField, Schema, Split

MS = 1e6
SCHEMA = Schema(name="pointwise", ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),))


def flat(ms: float) -> ServiceTable:
    """Every query takes as long."""
    return ServiceTable(sizes=np.array([1.0, 100.0]), mean_ns=np.full(2, ms * MS), spread=np.ones(1))


def load(limit_ms: float, sizes: str = "fixed:10") -> Load:
    return Load.of({"query_sizes": sizes, "sla": {"limit_ms": limit_ms, "percentile": 99.0}})


def pairs(cores: int, **given: int) -> list[tuple[int, int]]:
    found = settings(cores, Runtime(executor="auto", **{"workers": 0, **given}))
    return [(setting.workers, setting.threads) for setting in found]


def test_settings_of_some_machines() -> None:
    assert pairs(1) == [(1, 1)]
    assert pairs(2) == [(1, 1), (2, 1), (1, 2)]
    assert pairs(6) == [(4, 1), (6, 1), (2, 2), (3, 2), (1, 4), (1, 6)]
    assert pairs(64) == [
        *((32, 1), (64, 1), (16, 2), (32, 2), (8, 4), (16, 4), (4, 8), (8, 8)),
        *((2, 16), (4, 16), (1, 32), (2, 32), (1, 64)),
    ]
    assert (63, 1) in pairs(63) and (1, 63) in pairs(63)


def test_a_given_count_stays() -> None:
    assert pairs(8, threads=4) == [(1, 4), (2, 4)]
    assert pairs(8, workers=2) == [(2, 2), (2, 4)]
    assert pairs(2, workers=3) == [(3, 1)] and pairs(2, threads=4) == [(1, 4)]


@given(st.integers(1, 300))
def test_settings_fit_the_cores_and_leave_few_of_them_idle(cores: int) -> None:
    found = pairs(cores)
    assert (cores, 1) in found and (1, cores) in found and len(set(found)) == len(found)
    assert all(cores / 2 <= workers * threads <= cores for workers, threads in found)


@pytest.mark.parametrize(("limit_ms", "workers"), [(1.5, 1), (3.0, 1), (10.0, 1), (2.0, 2), (5.0, 7)])
def test_the_rate_is_that_of_another_simulation_of_the_same_trace(limit_ms: float, workers: int) -> None:
    asked = load(limit_ms, "uniform:1-100")
    table = ServiceTable(sizes=np.array([1.0, 100.0]), mean_ns=np.array([0.2, 1.0]) * MS, spread=np.ones(1))
    rate = predicted_lbt(table, asked, workers, Dispatch())
    arrivals, sizes = unit_trace(choice.QUERIES, asked.sizes, asked.probability, choice.SEED)

    def late(rate_qps: float) -> float:
        latency = simulate(arrivals / rate_qps, (0.2 + 0.8 * (sizes - 1) / 99) * MS, workers)
        return float(np.mean(latency[choice.UNCOUNTED :] > limit_ms * MS))

    assert late(rate) <= 0.01 < late(1.004 * rate)


@pytest.mark.parametrize("limit_ms", [1.5, 4.0])
def test_the_rate_of_one_worker_is_that_of_the_formula(limit_ms: float) -> None:
    exact = mg1.lbt_qps(service_atoms(np.array([MS]), np.ones(1)), limit_ms * MS, 0.01)
    assert predicted_lbt(flat(1.0), load(limit_ms), 1, Dispatch()) == pytest.approx(exact, rel=0.04)


def test_no_rate_where_the_service_alone_is_too_long() -> None:
    assert predicted_lbt(flat(1.0), load(0.9), 4, Dispatch()) == 0.0


def auto_plan() -> Plan:
    first = first_pipeline(WdlConfig(), SCHEMA, "torch", "cpu", "serve")
    return Plan(steps=(), pipeline=dataclasses.replace(first, runtime=Runtime(executor="auto", workers=0)))


@pytest.fixture
def choose(split: Split, monkeypatch: pytest.MonkeyPatch) -> Callable[..., choice.Choice]:
    """``choose_executor`` on two cores, with a hand-made service time (ms) for each setting."""

    def of(limit_ms: float, service_ms: dict[tuple[int, int], float]) -> choice.Choice:
        threads: list[int] = []

        def opened(plan: Plan) -> Steps:
            threads.append(plan.pipeline.runtime.threads)
            return one_step(lambda batch: np.zeros(len(batch), np.float32))

        def table(steps: Steps, payloads: list[bytes], workers: int, seconds: float) -> ServiceTable:
            return flat(service_ms[workers, threads[-1]])

        monkeypatch.setattr(choice, "service_table", table)
        monkeypatch.setattr(choice, "QUERIES", 5000)
        found = choose_executor(auto_plan(), opened, split.batch(np.arange(len(split))), load(limit_ms), 2)
        assert threads == [1, 2]  # lowered once for each number of threads
        return found

    return of


def test_capacity_decides_where_the_limit_is_far(choose: Callable[..., choice.Choice]) -> None:
    # 2 workers of 1 ms serve 2,000 queries/s, one of 0.6 ms 1,667.
    found = choose(100.0, {(1, 1): 0.9, (2, 1): 1.0, (1, 2): 0.6})
    assert found.setting == Setting(workers=2, threads=1)
    rates = {(t.setting.workers, t.setting.threads): t.lbt_qps for t in found.tried}
    assert rates == pytest.approx({(1, 1): 1111, (2, 1): 2000, (1, 2): 1667}, rel=0.04)
    report = found.report()
    assert (report["workers"], report["threads"]) == (2, 1)
    assert report["summary"].startswith("2 workers of 1 thread: ")
    assert ", before 1 worker of 2 threads with " in report["summary"]
    assert [row["lbt_qps"] for row in report["settings"]] == [t.lbt_qps for t in found.tried]


def test_contention_beside_one_another_is_seen(choose: Callable[..., choice.Choice]) -> None:
    # Two workers that halve each other's speed serve no more than one, and each query takes longer.
    assert choose(5.0, {(1, 1): 1.0, (2, 1): 2.0, (1, 2): 1.1}).setting == Setting(workers=1, threads=1)


def test_the_limit_decides_where_it_is_near(choose: Callable[..., choice.Choice]) -> None:
    found = choose(0.95, {(1, 1): 1.0, (2, 1): 1.0, (1, 2): 0.6})
    assert found.setting == Setting(workers=1, threads=2)
    assert [tried.lbt_qps > 0 for tried in found.tried] == [False, False, True]


def test_where_nothing_meets_the_limit_the_shortest_service_is_taken(choose: Callable[..., choice.Choice]) -> None:
    assert choose(0.1, {(1, 1): 1.0, (2, 1): 1.2, (1, 2): 0.6}).setting == Setting(workers=1, threads=2)


def test_queries_are_those_of_single_users(split: Split) -> None:
    rows = split.batch(np.arange(len(split)))
    users = len(rows.history_offsets) - 1
    for number in (0, 1, users - 1, users + 1):
        query = query_of(rows, number, 37)
        user = number % users
        np.testing.assert_array_equal(query.user.ids[0], rows.user.ids[user])
        np.testing.assert_array_equal(
            query.history, rows.history[rows.history_offsets[user] : rows.history_offsets[user + 1]]
        )
        np.testing.assert_array_equal(query.item.ids, rows.item.ids[(np.arange(37) + number) % len(rows)])
        assert len(query) == 37 and not query.user_of.any()


def test_a_round_has_the_trials_sizes_and_the_largest() -> None:
    assert load(1.0, "fixed:7").tried() == [7] * 17
    heavy = load(1.0, "heavy").tried()
    assert heavy == sorted(heavy) and heavy[-1] == 100 and np.mean(heavy[:-1]) == pytest.approx(27.1, rel=0.05)


def test_service_times_are_means_without_the_first_round(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0], [0]

    def predict(batch: Batch) -> Any:
        calls[0] += 1
        clock[0] += 10**6 if calls[0] <= 2 else 1000 * len(batch)
        return np.zeros(len(batch), np.float32)

    monkeypatch.setattr(choice, "now_ns", lambda: clock[0])
    rows = split.batch(np.arange(len(split)))
    payloads = [encode(query_of(rows, 0, size)) for size in (5, 50)]
    table = choice.service_table(one_step(predict), payloads, 1, 1e-3)
    assert table.sizes.tolist() == [5.0, 50.0] and table.log_sd == 0.0
    assert table.mean_ns.tolist() == [5_000.0, 50_000.0]
    assert calls[0] == 2 + 2 * 19  # rounds of 55 us until a millisecond has passed


def test_as_many_threads_ask_as_there_are_workers_and_their_errors_are_raised(split: Split) -> None:
    seen: set[int] = set()
    together = threading.Barrier(3)

    def predict(batch: Batch) -> Any:
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            together.wait(timeout=30)
        return np.zeros(len(batch), np.float32)

    payloads = [encode(query_of(split.batch(np.arange(40)), 0, size)) for size in (1, 20)]
    choice.service_table(one_step(predict), payloads, 3, 0.0)
    assert len(seen) == 3

    def fail(batch: Batch) -> Any:
        raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        choice.service_table(one_step(fail), payloads, 2, 0.0)


def test_the_sla_and_the_sizes_come_from_the_spec() -> None:
    asked = Load.of({"query_sizes": "uniform:3-4", "sla": {"limit_ms": 7.0, "percentile": 90.0}})
    assert asked.sizes.tolist() == [3, 4] and asked.probability.tolist() == [0.5, 0.5]
    assert asked.sla == Sla(limit_ms=7.0, percentile=90.0)
