"""What bursts of steps have to show: the middle one close to the baseline, and none of them far from it."""

from __future__ import annotations

import dataclasses

import pytest

from harness.estimate.parity import FAR, FEWEST, TensorParity
from harness.training.gate import bursts_apart, most_are_close, training_gate

ROW = TensorParity(
    stage="gate", tensor="top.weight", quad=-1, half=-1, steps=2, elements=500, compared=500, scale=1.0,
    reordered_p50=0.0, reordered_p99=0.0, p50=0.0, p99=0.0, tail=0.0,
)  # fmt: skip
NOBODYS = dataclasses.replace(ROW, tensor="score.bias", compared=0)


def bursts(*distances: float, **fields: object) -> list[TensorParity]:
    """Two of each quad, the first with the first distance."""
    timed = dataclasses.replace(ROW, stage="timed", steps=12)
    return [dataclasses.replace(timed, quad=k // 2, half=k % 2, p50=each, **fields) for k, each in enumerate(distances)]


def verdict(*rows: TensorParity) -> str:
    found = training_gate([ROW, NOBODYS, *rows])
    assert found.timed_answers == found.verdict
    return found.verdict


def test_now_and_then_a_right_training_is_some_percent_off():
    assert verdict(*bursts(0.0, 0.04, 0.0, 0.0, 0.03, 0.0)) == "pass"
    assert verdict(*bursts(0.004, 0.004, 0.004, 0.0, 0.0, 0.0)) == "pass"
    assert verdict(*bursts(0.004, 0.004, 0.004, 0.004, 0.0, 0.0)) == "fail"


def test_other_orders_widen_what_is_allowed_of_the_burst_over_which_they_were_trained():
    rows = bursts(*[0.02] * 4)
    assert verdict(*rows) == "fail"

    def orders(*halves: tuple[int, int]) -> list[TensorParity]:
        return [
            dataclasses.replace(ROW, stage="reordered", quad=quad, half=half, p50=each)
            for quad, half in halves
            for each in (0.0, 0.003)
        ]

    assert verdict(*rows, *orders((0, 0))) == verdict(*rows, *orders((0, 0), (2, 0), (3, 1))) == "fail"
    assert verdict(*rows, *orders((0, 0), (1, 1))) == "pass"


def test_bursts_that_are_not_close_are_named():
    small = dataclasses.replace(ROW, stage="timed", quad=2, half=0, elements=FEWEST - 1, p50=0.9)
    rows = [ROW, NOBODYS, *bursts(0.0, 0.004, 0.002, 0.5), small, *bursts(0.9, tensor="score.bias")]
    assert bursts_apart(rows) == [(0, 1), (1, 1)]
    assert most_are_close(rows) and not most_are_close([*rows, *bursts(0.004, 0.004)])


@pytest.mark.parametrize("off", [1.01 * FAR, 0.3, float("inf"), float("nan")])
def test_one_burst_that_is_far_off_fails(off: float):
    """Whoever leaves out a step in a few bursts only."""
    found = training_gate([ROW, *bursts(0.0, 0.0, 0.0, off, 0.0, 0.0)])
    assert found.verdict == "fail" and found.reasons[0].startswith("quad 1: top.weight is ")
    assert verdict(*bursts(0.0, 0.0, 0.0, 0.99 * FAR, 0.0, 0.0)) == "pass"


def test_tensors_that_are_nobodys_and_a_handful_of_elements_are_not_judged():
    assert verdict(*bursts(0.9, 0.9, tensor="score.bias")) == "pass"
    assert verdict(*bursts(0.9, 0.9, elements=FEWEST - 1)) == "pass"
    assert verdict(*bursts(0.9, 0.9, elements=FEWEST)) == "fail"
