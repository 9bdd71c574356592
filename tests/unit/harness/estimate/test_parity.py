"""When two trainings count as the same: distances, their unit, and what another order of the samples allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.estimate.parity import (
    FACTOR,
    FEWEST,
    P50_FLOOR,
    P99_FLOOR,
    TAIL,
    TensorParity,
    shared_by_block,
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


def test_what_movements_share_is_one_for_the_same_and_less_for_every_other():
    start, move = np.zeros(4000), RNG.normal(size=4000)

    def shared(candidate):
        return compared(candidate, start=start, baseline=move).shared

    assert shared(move) == pytest.approx(1.0)
    assert shared(0.3 * move) == shared(move / 0.3) == pytest.approx(0.3)
    assert shared(-move) == pytest.approx(-1.0) and shared(start) == 0.0
    # two movements of which half of the variance is their own
    assert shared(np.sqrt(0.5) * move + np.sqrt(0.5) * RNG.normal(size=4000)) == pytest.approx(np.sqrt(0.5), abs=0.05)
    assert shared(np.where(np.arange(4000) == 7, np.nan, move)) == 0.0


def test_blocks_are_weighed_by_elements_and_small_ones_are_not_judged():
    def row(tensor, elements, shared):
        return TensorParity(
            stage="timed", tensor=tensor, steps=9, elements=elements, compared=elements, scale=1.0,
            reordered_p50=0.0, reordered_p99=0.0, p50=0.0, p99=0.0, tail=0.0, shared=shared,
        )  # fmt: skip

    rows = [row("top.0.weight", 3000, 0.9), row("top.0.bias", 1000, 0.1), row("out.bias", FEWEST - 1, 0.0)]
    assert shared_by_block(rows) == {"top": pytest.approx(0.7)}


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
