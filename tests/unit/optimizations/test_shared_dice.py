"""Dice whose rows are in several threads against Dice on all rows at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optimizations.micro_batch.meeting import Meeting
from optimizations.micro_batch.shared_dice import SharedDice
from zoo.layers.mlp import Dice


def side_by_side(count: int, work: Callable[[int], Any]) -> list[Any]:
    """``work(0)`` ... in threads of their own."""
    results: list[Any] = [None] * count

    def run(place: int) -> None:
        results[place] = work(place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def reference(outputs: int) -> Dice:
    dice = Dice(outputs).double().train()
    torch.nn.init.normal_(dice.alpha)
    return dice


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 0), st.integers(1, 5))
def test_outputs_gradients_and_averages_are_those_of_the_whole(sizes: list[int], outputs: int) -> None:
    torch.manual_seed(sum(sizes))
    whole = reference(outputs)
    shared = reference(outputs)
    shared.load_state_dict(whole.state_dict())
    x = torch.randn(sum(sizes), outputs, dtype=torch.float64) * 3 + 1
    weight = torch.randn_like(x)
    expected = x.clone().requires_grad_()
    (whole(expected) * weight).sum().backward()

    meeting: Meeting[Any] = Meeting(len(sizes))
    leaves = [part.clone().requires_grad_() for part in x.split(sizes)]

    def part(place: int) -> Tensor | None:
        own = SharedDice(reference(outputs), lambda: meeting, place).train()
        own.alpha = torch.nn.Parameter(shared.alpha.detach())
        own.running_mean, own.running_var = shared.running_mean, shared.running_var
        (own(leaves[place]) * weight.split(sizes)[place]).sum().backward()
        return own.alpha.grad

    slopes = side_by_side(len(sizes), part)
    torch.testing.assert_close(torch.cat([leaf.grad for leaf in leaves]), expected.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.stack(slopes).sum(0), whole.alpha.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shared.running_mean, whole.running_mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(shared.running_var, whole.running_var, rtol=1e-9, atol=1e-12)


def test_everybody_leaves_with_the_same_in_order() -> None:
    meeting: Meeting[int] = Meeting(4)
    seen = side_by_side(4, lambda place: [meeting.exchange(place, 10 * turn + place) for turn in range(50)])
    assert seen == [[[10 * turn + place for place in range(4)] for turn in range(50)]] * 4


def test_whoever_waits_for_one_that_gave_up_is_told() -> None:
    meeting: Meeting[int] = Meeting(2)

    def work(place: int) -> str:
        if place == 1:
            meeting.give_up()
            return "gave up"
        with pytest.raises(threading.BrokenBarrierError):
            meeting.exchange(place, 0)
        return "told"

    assert side_by_side(2, work) == ["told", "gave up"]
