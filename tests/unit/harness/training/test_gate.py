"""What bursts of steps have to show: the middle one close to the baseline, and none of them far from it."""

from __future__ import annotations

import dataclasses

import pytest

from harness.estimate.parity import FAR, FEWEST, TensorParity
from harness.training.gate import training_gate

ROW = TensorParity(
    stage="gate", tensor="top.weight", quad=-1, steps=2, elements=500, compared=500, scale=1.0,
    reordered_p50=0.0, reordered_p99=0.0, p50=0.0, p99=0.0, tail=0.0,
)  # fmt: skip
NOBODYS = dataclasses.replace(ROW, tensor="score.bias", compared=0)


def bursts(*distances: float, **fields: object) -> list[TensorParity]:
    """Two of each quad, the first with the first distance."""
    timed = dataclasses.replace(ROW, stage="timed", steps=12)
    return [dataclasses.replace(timed, quad=k // 2, p50=each, **fields) for k, each in enumerate(distances)]


def verdict(*rows: TensorParity) -> str:
    found = training_gate([ROW, NOBODYS, *rows])
    assert found.timed_answers == found.verdict
    return found.verdict


def test_now_and_then_a_right_training_is_some_percent_off():
    assert verdict(*bursts(0.0, 0.04, 0.0, 0.0, 0.03, 0.0)) == "pass"
    assert verdict(*bursts(0.004, 0.004, 0.004, 0.0, 0.0, 0.0)) == "pass"
    assert verdict(*bursts(0.004, 0.004, 0.004, 0.004, 0.0, 0.0)) == "fail"


def test_other_orders_of_the_samples_widen_what_is_allowed_in_the_middle_one():
    rows = bursts(*[0.02] * 4)
    assert verdict(*rows) == "fail"
    orders = [dataclasses.replace(ROW, stage="reordered", quad=0, p50=each) for each in (0.0, 0.003)]
    assert verdict(*rows, *orders) == "pass"


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
