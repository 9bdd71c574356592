"""The floor's LBT from probes of a null system whose capacity is known."""

from __future__ import annotations

import pytest

from harness.record.floor import FLOOR_QPS, HEADROOM, TRIES, find_floor
from harness.record.result import Floor

AT_1000_QPS = Floor(p50_ms=0.1, p99_ms=0.4, lbt_qps=None)


@pytest.mark.parametrize(
    ("reported", "capacity", "rates", "held"),
    [
        pytest.param(2000.0, 20_000.0, [10_200.0], 10_200.0, id="far above"),
        pytest.param(2000.0, 6_000.0, [10_200.0] * 3 + [5_100.0], 5_100.0, id="near the result"),
        pytest.param(100.0, 20_000.0, [1_000.0], 1_000.0, id="a slow result"),
        pytest.param(100.0, 600.0, [1_000.0] * 3 + [500.0], 500.0, id="just far enough above a slow one"),
        pytest.param(150.0, 600.0, [1_000.0] * 3, 0.0, id="not even at 1,000 qps"),
        pytest.param(300.0, 0.0, [1_530.0] * 3, 0.0, id="never"),
    ],
)
def test_the_first_rate_that_holds_is_the_floor(
    reported: float, capacity: float, rates: list[float], held: float
) -> None:
    asked: list[tuple[float, int]] = []

    def probe(rate_qps: float, index: int) -> bool:
        asked.append((rate_qps, index))
        return rate_qps <= capacity

    found = find_floor(AT_1000_QPS, reported, probe)
    assert [rate for rate, _ in asked] == pytest.approx(rates)
    assert [index for _, index in asked] == list(range(1, len(rates) + 1))
    assert found.lbt_qps == pytest.approx(held)
    assert found.referee_bound == (held < HEADROOM * reported)
    assert (found.p50_ms, found.p99_ms) == (0.1, 0.4)


def test_one_of_three_attempts_is_enough() -> None:
    found = find_floor(AT_1000_QPS, FLOOR_QPS, lambda rate, index: index == TRIES)
    assert found.lbt_qps == pytest.approx(1.02 * HEADROOM * FLOOR_QPS)
    assert not found.referee_bound


def test_without_a_result_there_is_nothing_to_be_far_above() -> None:
    assert find_floor(AT_1000_QPS, 0.0, lambda rate, index: pytest.fail("asked")) == AT_1000_QPS
