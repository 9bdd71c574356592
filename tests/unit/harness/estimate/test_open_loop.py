"""Work read backwards from the answers' times, against simulated queues whose work is known."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.estimate.longrun import QueueTwin
from harness.estimate.open_loop import FEWEST_QUERIES, open_loop_twin
from harness.estimate.replay import SegmentObservation
from harness.estimate.spells import SpellProcess
from harness.estimate.twin import ServiceTable, simulate, unit_trace
from harness.estimate.work import work_of
from optimizations.contract import Dispatch

MS = 1e6
LIMIT_NS = 50 * MS
SIZES = np.arange(1, 101)


def _mean(sizes: np.ndarray) -> np.ndarray:
    return (1.0 + 0.05 * sizes) * MS


def _twin(workers: int = 1, dispatch: Dispatch | None = None) -> QueueTwin:
    """A closed loop's table that is 30 % too slow."""
    table = ServiceTable(sizes=np.array([1.0, 100.0]), mean_ns=1.3 * _mean(np.array([1, 100])), spread=np.ones(1))
    return QueueTwin(
        table=table, sizes=SIZES, probability=np.full(100, 0.01), workers=workers, dispatch=dispatch or Dispatch()
    )


def _segment(
    rate: float, seed: int, workers: int = 1, speed: float = 1.0, noise: float = 0.1, delay: float = 0.0
) -> tuple[SegmentObservation, np.ndarray]:
    """Five seconds, and the true work of each query."""
    n, rng = int(5 * rate), np.random.default_rng(seed)
    unit, sizes = unit_trace(n, SIZES, np.full(100, 0.01), seed)
    work = speed * _mean(sizes) * np.exp(rng.normal(0.0, noise, n))
    latency = simulate(unit / rate, work, workers) + delay
    found = SegmentObservation(
        offered_qps=rate, trace_id=str(seed), quad=seed // 2, planned_ns=unit / rate, sizes=sizes, latency_ns=latency,
        duration_s=5.0,
    )  # fmt: skip
    return found, work


@given(st.integers(0, 10_000), st.floats(20.0, 400.0), st.sampled_from([1, 2, 3]))
def test_the_work_of_every_query_is_read_back_exactly(seed: int, rate: float, workers: int) -> None:
    segment, work = _segment(rate, seed, workers)
    assert work_of(segment, workers).ns == pytest.approx(work[segment.counted], rel=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_table_noise_and_delay_are_those_of_the_system(workers: int) -> None:
    segments = [_segment(150.0 * workers, i, workers, delay=0.4 * MS)[0] for i in range(12)]
    opened = open_loop_twin(segments, _twin(workers), LIMIT_NS)
    assert opened.known
    assert opened.twin.delay_ns == pytest.approx(0.4 * MS, abs=0.05 * MS)
    truth = _mean(SIZES) * math.exp(0.1**2 / 2)
    assert opened.twin.table.mean(SIZES[2:]) == pytest.approx(truth[2:], rel=0.04)
    assert opened.twin.service.mean_ns == pytest.approx(truth.mean(), rel=0.01)
    assert opened.twin.table.log_sd == pytest.approx(0.1, abs=0.01)
    assert np.abs(opened.log_speeds).max() < 0.02


def test_answers_that_a_held_up_referee_saw_together_share_their_work() -> None:
    """Every 100 ms the referee does not look for 15 ms; what ended meanwhile gets the stamp of the end."""
    segments = []
    for seed in range(8):
        segment, _ = _segment(150.0, seed)
        done = segment.planned_ns + segment.latency_ns
        blind = done % (100 * MS) < 15 * MS
        stamps = np.where(blind, done - done % (100 * MS) + 15 * MS, done)
        assert 0.02 < np.mean(np.diff(stamps) == 0.0) < 0.2
        segments.append(dataclasses.replace(segment, latency_ns=stamps - segment.planned_ns))
    opened = open_loop_twin(segments, _twin(), LIMIT_NS)
    assert opened.known
    truth = _mean(SIZES).mean() * math.exp(0.1**2 / 2)
    # The first of a group waited for its stamp, on average 7.5 ms in 15 % of the time, where the system ran empty.
    assert opened.twin.service.mean_ns == pytest.approx(truth, rel=0.06)


def test_the_speed_of_each_segment_is_found() -> None:
    speeds = np.array([0.7, 1.0, 1.4, 0.9, 1.2, 1.0])
    opened = open_loop_twin([_segment(120.0, i, speed=s)[0] for i, s in enumerate(speeds)], _twin(), LIMIT_NS)
    expected = np.log(speeds) - np.average(np.log(speeds), weights=[480] * 6)
    assert opened.log_speeds == pytest.approx(expected, abs=0.03)


def test_chance_does_not_pass_for_a_wavering_host() -> None:
    """80 queries a segment with 30 % noise: medians scatter by 4 %, the speeds found by a quarter of that or less."""
    spreads = []
    for seed in range(20):
        opened = open_loop_twin([_segment(20.0, 100 * seed + i, noise=0.3)[0] for i in range(8)], _twin(), LIMIT_NS)
        spreads.append(opened.log_speeds.std())
    assert float(np.median(spreads)) < 0.012


def test_the_work_fixes_the_scale_less_well_the_more_the_host_wavers() -> None:
    opened = open_loop_twin([_segment(150.0, i)[0] for i in range(4)], _twin(), LIMIT_NS)
    for spell_sd, expected in ((0.0, 0.005), (0.0125, 0.005 * math.sqrt(2.0)), (0.03, 0.013)):
        wavering = dataclasses.replace(
            opened, twin=dataclasses.replace(opened.twin, spells=SpellProcess(log_sd=spell_sd))
        )
        assert wavering.log_sd == pytest.approx(expected)


def test_a_system_that_is_no_fifo_queue_is_left_unknown() -> None:
    segment, _ = _segment(150.0, 1)
    rng = np.random.default_rng(2)
    overtaking = np.where(rng.random(segment.sizes.size) < 0.1, segment.latency_ns + 200 * MS, segment.latency_ns)
    odd = SegmentObservation(
        offered_qps=150.0, trace_id="odd", quad=0, planned_ns=segment.planned_ns, sizes=segment.sizes,
        latency_ns=overtaking, duration_s=5.0,
    )  # fmt: skip
    opened = open_loop_twin([odd], _twin(), LIMIT_NS)
    assert not opened.known and opened.log_sd == 0.0 and opened.log_speeds.tolist() == [0.0]


def test_batched_staged_and_sparse_systems_are_left_unknown() -> None:
    segment, _ = _segment(150.0, 1)
    assert not open_loop_twin([segment], _twin(dispatch=Dispatch(batch=4)), LIMIT_NS).known
    assert not open_loop_twin([segment], _twin(dispatch=Dispatch(stage=True)), LIMIT_NS).known
    assert open_loop_twin([segment], _twin(dispatch=Dispatch(parts=4)), LIMIT_NS).known
    few, _ = _segment(0.2 * FEWEST_QUERIES, 1)
    assert not open_loop_twin([few], _twin(), LIMIT_NS).known


def test_unanswered_queries_are_no_work() -> None:
    segment, work = _segment(100.0, 5)
    holed = segment.latency_ns.copy()
    holed[-20:] = np.inf
    dropped = SegmentObservation(
        offered_qps=100.0, trace_id="x", quad=0, planned_ns=segment.planned_ns, sizes=segment.sizes, latency_ns=holed,
        duration_s=5.0,
    )  # fmt: skip
    assert work_of(dropped, 1).ns == pytest.approx(work[segment.counted][:-20], rel=1e-6)
