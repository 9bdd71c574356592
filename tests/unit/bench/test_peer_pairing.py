"""Mirrored turns on a host whose drift is known, and what the blocks' ratios say."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t as student

from tests.bench.peers.frozen import MOST_CYCLES, TURN_NS, cycles_of
from tests.bench.peers.pairing import Rounds, mirrored
from tests.bench.peers.workload import QUERIES

NS = {"peer": 6_000.0, "other": 3_000.0, "best": 1_000.0, "fusion": 1_500.0}


class Host:
    """Service times by contender, grown by a constant factor from turn to turn."""

    def __init__(self, growth: float = 1.0) -> None:
        self.growth, self.order = growth, list[tuple[str, int]]()

    def turn(self, name: str, size: int) -> float:
        self.order.append((name, size))
        return NS[name] * size * self.growth ** len(self.order)


def test_a_block_is_a_turn_of_each_and_the_same_in_reverse() -> None:
    host = Host()
    mirrored(host.turn, "peer", ("best", "fusion"), 10)
    assert [name for name, _ in host.order] == ["peer", "best", "fusion", "fusion", "best", "peer"]
    assert {size for _, size in host.order} == {10}


def test_a_steady_drift_falls_out_of_both_ratios() -> None:
    """Each turn takes 5 % more than the one before."""
    rounds = Rounds(["peer"], ["best", "fusion"], [10])
    host = Host(growth=1.05)
    for _ in range(3):
        rounds.add(host.turn)
    found = {ratio.ours: ratio for ratio in rounds.ratios() if ratio.size == 10}
    assert found["best"].ratio == pytest.approx(6.0, rel=1e-12)
    assert found["fusion"].ratio == pytest.approx(4.0, rel=1e-12)
    assert found["best"].interval == pytest.approx((6.0, 6.0), rel=1e-9)
    assert found["best"].blocks == 3


def test_times_are_in_microseconds() -> None:
    rounds = Rounds(["peer"], ["best"], [10])
    for _ in range(2):
        rounds.add(Host().turn)
    by_size = rounds.ratios()[0]
    assert by_size.peer_us == pytest.approx(60.0) and by_size.ours_us == pytest.approx(10.0)


def test_every_size_weighs_the_same_in_the_mean() -> None:
    """Ratios of 2 and 8 have the geometric mean 4, whatever the times."""
    times = {("peer", 1): 2.0, ("best", 1): 1.0, ("peer", 100): 8_000.0, ("best", 100): 1_000.0}
    rounds = Rounds(["peer"], ["best"], [1, 100])
    for _ in range(2):
        rounds.add(lambda name, size: times[name, size])
    *sizes, mean = rounds.ratios()
    assert [ratio.size for ratio in sizes] == [1, 100] and mean.size is None
    assert [ratio.ratio for ratio in sizes] == pytest.approx([2.0, 8.0])
    assert mean.ratio == pytest.approx(4.0) and mean.peer_us is None


def test_the_interval_is_students_on_the_logs_of_the_blocks() -> None:
    """Three blocks of ratios 2, 4, 8: mean log 2 = log 4, standard deviation log 2."""
    ratios = iter((2.0, 4.0, 8.0))
    rounds = Rounds(["peer"], ["best"], [1])
    for _ in range(3):
        ratio = next(ratios)
        rounds.add(lambda name, size, ratio=ratio: ratio if name == "peer" else 1.0)
    half = float(student.ppf(0.975, 2)) * math.log(2) / math.sqrt(3)
    low, high = rounds.ratios()[0].interval
    assert rounds.ratios()[0].ratio == pytest.approx(4.0)
    assert (low, high) == pytest.approx((4.0 * math.exp(-half), 4.0 * math.exp(half)))


def test_peers_are_in_the_order_in_which_they_were_named() -> None:
    rounds = Rounds(["peer", "other"], ["best"], [1])
    for _ in range(2):
        rounds.add(Host().turn)
    assert [(r.peer, r.size) for r in rounds.ratios()] == [("peer", 1), ("peer", None), ("other", 1), ("other", None)]


def test_one_block_has_no_interval() -> None:
    rounds = Rounds(["peer"], ["best"], [1])
    rounds.add(Host().turn)
    with pytest.raises(ValueError, match="at least 2 values"):
        rounds.ratios()


@pytest.mark.parametrize(
    ("service_ns", "cycles"),
    [(TURN_NS, 1), (10 * TURN_NS, 1), (TURN_NS / QUERIES / 5, 5), (1.0, MOST_CYCLES)],
)
def test_a_turn_answers_every_query_at_least_once(service_ns: float, cycles: int) -> None:
    assert cycles_of(service_ns) == cycles
