"""When two trainings count as the same: distances, their unit, and what another order of the samples allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.estimate.parity import (
    FACTOR,
    P50_FLOOR,
    P99_FLOOR,
    TAIL,
    TensorParity,
    tensor_parity,
    worst,
)

RNG = np.random.default_rng(5)
START = RNG.normal(size=(50, 40)).astype(np.float32)
MOVES = RNG.normal(size=START.shape)
BASELINE = (START + 0.01 * MOVES).astype(np.float32)
SCALE = float(np.sqrt(np.mean(np.square(BASELINE.astype(np.float64) - START))))


def compared(candidate, *reordered, stage="gate", start=START, baseline=BASELINE) -> TensorParity:
    found = tensor_parity(stage, "t", 3, start, baseline, candidate, reordered)
    assert found is not None
    return found


def shifted(share: float, by: float) -> np.ndarray:
    """The baseline with the first ``share`` of its elements moved by ``by`` of the tensor's movement."""
    other = BASELINE.astype(np.float64).copy()
    other.reshape(-1)[: round(share * other.size)] += by * SCALE
    return other


def test_the_same_parameters_use_nothing_of_their_tolerance():
    row = compared(BASELINE.copy(), shifted(1.0, 1e-4))
    assert (row.p50, row.p99, row.tail, row.used) == (0.0, 0.0, 0.0, 0.0)
    assert row.elements == row.compared == START.size and row.scale == pytest.approx(SCALE)


@pytest.mark.parametrize(
    ("share", "by", "used"),
    [
        (1.0, 0.5 * P50_FLOOR, 0.5),
        (1.0, 2 * P50_FLOOR, 2.0),
        (0.4, 0.5 * P99_FLOOR, 0.5),
        (0.4, 3 * P99_FLOOR, 3.0),
        (0.5 * TAIL, 7.0, 0.5),
        (2 * TAIL, 7.0, 2.0),
    ],
)
def test_each_distance_is_held_against_its_tolerance(share, by, used):
    assert compared(shifted(share, by)).used == pytest.approx(used, rel=2e-3)


def test_what_another_order_does_widens_the_tolerance_by_the_factor():
    reordered = shifted(1.0, 3 * P50_FLOOR)
    assert compared(shifted(1.0, 15 * P50_FLOOR), reordered).used == pytest.approx(15 / (3 * FACTOR), rel=1e-3)
    # of several orders the farthest counts
    assert compared(shifted(1.0, 15 * P50_FLOOR), BASELINE, reordered).used == pytest.approx(0.5, rel=1e-3)


def test_elements_that_another_order_moves_are_nobodys():
    reordered, candidate = shifted(0.3, -0.2), shifted(0.3, 9.0)
    row = compared(candidate, reordered)
    assert (row.compared, row.used) == (0.7 * START.size, 0.0)
    assert compared(candidate).used > 1.0
    alone = compared(np.array([0.4]), np.array([-0.6]), start=np.zeros(1), baseline=np.array([0.5]))
    assert (alone.elements, alone.compared, alone.used) == (1, 0, 0.0)


def test_only_what_moved_on_either_side_is_compared():
    start = np.zeros(1000)
    baseline, candidate = start.copy(), start.copy()
    baseline[:10] = candidate[:10] = 1.0
    assert compared(candidate, start=start, baseline=baseline).elements == 10
    candidate[10:20] = 1.0  # rows that the batches do not touch
    row = compared(candidate, start=start, baseline=baseline)
    assert row.elements == 20 and row.tail == 0.5 and row.used > 100
    assert tensor_parity("gate", "t", 3, start, start, start) is None


def test_a_burst_is_held_against_what_other_orders_do_to_it():
    burst = [compared(shifted(1.0, by), stage="timed") for by in (0.5 * P50_FLOOR, 15 * P50_FLOOR)]
    orders = [compared(shifted(1.0, by), stage="reordered") for by in (P50_FLOOR, 3 * P50_FLOOR)]
    assert burst[0].used_beside([]) == pytest.approx(0.5, rel=2e-3)
    assert burst[1].used_beside([]) == pytest.approx(15, rel=2e-3)
    # of several orders the farthest counts, and the factor is that of the gate
    assert burst[1].used_beside(orders) == pytest.approx(15 / (3 * FACTOR), rel=2e-3)
    few = compared(shifted(2 * TAIL, 7.0), stage="timed")
    assert few.used_beside([]) == pytest.approx(2.0, rel=2e-3)
    assert few.used_beside([compared(shifted(TAIL, 7.0))]) == pytest.approx(2 / FACTOR, rel=2e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_is_farther_than_any(value):
    candidate = BASELINE.copy()
    candidate[:3] = value
    assert compared(candidate).used > 1.0


@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_units_do_not_matter(seed, unit):
    rng = np.random.default_rng(seed)
    start, move, off = (rng.normal(size=60) for _ in range(3))
    end = start + move
    rows = [
        compared(k * (end + 1e-3 * off), k * (end + 1e-4 * off), start=k * start, baseline=k * end) for k in (1.0, unit)
    ]
    assert rows[1].used == pytest.approx(rows[0].used, rel=1e-3)


def test_the_worst_takes_most_of_its_tolerance():
    rows = [compared(shifted(1.0, by)) for by in (1e-4, 8e-4, 3e-4)]
    assert worst(rows) is rows[1] and worst([]) is None
