"""The compiled queues against their forms in numpy and plain Python: the same bits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.estimate import fifo, long_traces, replay, twin
from harness.estimate.fifo import first_free, simulate
from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import Replay, SegmentObservation
from harness.estimate.spells import SegmentSpells, SpellProcess
from harness.estimate.twin import DispatchedService, ServiceTable, simulate_dispatch
from harness.native.library import native_library
from harness.native.queues import compiled
from harness.trial import Sla
from optimizations.contract import Dispatch

MS = 1e6


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Call ``setattr`` through it to take the compiled queues away; skipped where there are none."""
    if compiled() is None:
        pytest.skip("no C++ compiler: the forms in numpy are all there is")
    return monkeypatch


def _take_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fifo, twin, replay, long_traces):
        monkeypatch.setattr(module, "compiled", lambda: None)


def _both(monkeypatch: pytest.MonkeyPatch, find):  # type: ignore[no-untyped-def]
    by_machine = find()
    with monkeypatch.context() as patch:
        _take_away(patch)
        by_numpy = find()
    return by_machine, by_numpy


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(1,), (333,), (5, 70), (3, 9, 131)])
def test_latencies(without: pytest.MonkeyPatch, workers: int, shape: tuple[int, ...]) -> None:
    """Any number of traces, lengths that are no multiple of a tile, ties and a queue that never empties."""
    rng = np.random.default_rng(len(shape) + workers)
    arrivals = np.cumsum(rng.exponential(MS, shape[-1]).round(-5), axis=-1)
    for load in (0.3, 0.95, 1.5):
        service = rng.lognormal(0.0, 0.8, shape) * MS * load * workers
        by_machine, by_numpy = _both(without, lambda s=service: simulate(arrivals, s, workers))
        np.testing.assert_array_equal(by_machine, by_numpy)


@settings(max_examples=40)
@given(st.integers(2, 5), st.lists(st.one_of(st.floats(0, 1e6), st.just(-math.inf)), max_size=40))
def test_when_a_worker_is_free(workers: int, done: list[float]) -> None:
    """By hand: the lowest of the ``workers`` latest ends before each query."""
    if compiled() is None:
        pytest.skip("no C++ compiler")
    wanted = [([-math.inf] * workers + sorted(done[:k]))[-workers] for k in range(len(done))]
    assert first_free(np.array(done), workers).tolist() == wanted


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "dispatch", [Dispatch(split=16), Dispatch(batch=3), Dispatch(batch=4, wait_ms=1.5), Dispatch()]
)
def test_split_and_merged_queries(without: pytest.MonkeyPatch, workers: int, dispatch: Dispatch) -> None:
    rng = np.random.default_rng(workers)
    arrivals, sizes = np.cumsum(rng.exponential(2 * MS / workers, 2000)), rng.integers(1, 100, 2000)
    service = DispatchedService(
        by_samples=(0.2 + 0.03 * np.arange(401)) * MS, factor=rng.lognormal(0, 0.3, 2000), dispatch=dispatch
    )
    by_machine, by_numpy = _both(without, lambda: simulate_dispatch(arrivals, sizes, service, workers))
    np.testing.assert_array_equal(by_machine, by_numpy)


def test_a_table_that_ends_too_soon_is_an_error_and_no_foreign_memory() -> None:
    service = DispatchedService(by_samples=np.full(8, MS), factor=np.ones(3), dispatch=Dispatch(batch=3))
    with pytest.raises(IndexError):
        simulate_dispatch(np.zeros(3), np.array([5, 5, 5]), service)


def _twin(workers: int, spells: SpellProcess) -> QueueTwin:
    table = ServiceTable(
        sizes=np.array([1.0, 40.0]), mean_ns=np.array([2.0, 9.0]) * MS, spread=np.linspace(0.5, 1.5, 64)
    )
    return QueueTwin(
        table=table, sizes=np.array([1, 10, 40]), probability=np.array([0.2, 0.5, 0.3]), workers=workers,
        delay_ns=0.2 * MS, spells=spells, traces=11,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("length", [0.0, 0.05, 0.3])
def test_tails_of_long_traces(without: pytest.MonkeyPatch, workers: int, length: float) -> None:
    """Among spells, too, and at loads where nearly none and nearly all queries are late."""
    spells = SpellProcess(log_sd=0.1, length_ns=length * 1e9, keep=0.4) if length else SpellProcess()
    if workers == 1 and not length:
        spells = SpellProcess(log_sd=0.02, length_ns=3e9)

    def found() -> list[float]:
        own, capacity = _twin(workers, spells), _twin(workers, spells).capacity_qps
        late = [own.late_fraction(load * capacity, ms * MS) for load in (0.1, 0.6, 0.93) for ms in (8.0, 30.0, 200.0)]
        return [own.lbt_qps(Sla(limit_ms=30.0)), *late]

    by_machine, by_numpy = _both(without, found)
    assert by_machine == by_numpy and 0.0 < by_machine[1] < 1.0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("copies", [1, 4, 8, 11])
def test_replayed_segments(without: pytest.MonkeyPatch, workers: int, copies: int) -> None:
    """Segments of unequal length, each with its own speed and spells."""
    rng, segments, spells = np.random.default_rng(copies), [], []
    for number, n in enumerate((301, 17, 250)):
        planned = np.cumsum(rng.exponential(6 * MS / workers, n)) + 0.9e9
        segments.append(
            SegmentObservation(
                offered_qps=160.0 * workers, trace_id=str(number), quad=number // 2, planned_ns=planned,
                sizes=rng.choice([1, 10, 40], n), latency_ns=rng.exponential(9 * MS, n), duration_s=3.0,
            )
        )  # fmt: skip
        spells.append(
            SegmentSpells(
                first_ns=np.array([0.0, planned[n // 2]]), log_factor=np.array([0.1, -0.1]), left_sd=np.full(2, 0.05),
                excess=0.0, weight=0.0, degrees=1,
            )
        )  # fmt: skip

    def found() -> list[list[float]]:
        own = Replay(
            segments, _twin(workers, SpellProcess()), 25 * MS, np.array([0.1, 0.0, -0.1]), copies=copies, spells=spells
        )
        sums = [own.twin(x).tolist() + own.variance(x).tolist() for x in (-0.4, 0.0, 0.3)]
        return [*sums, [own.correlation(0.0)]]

    by_machine, by_numpy = _both(without, found)
    assert by_machine == by_numpy and max(by_machine[1][:3]) > 0.0


def test_a_machine_without_a_compiler_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
    assert native_library.__wrapped__() is None
