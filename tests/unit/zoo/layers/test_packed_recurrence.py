"""Packed recurrence against the reference layers: states and gradients, ragged rows, empty ones, shared users."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo.layers.augru import Augru, Gru
from zoo.layers.packed_recurrence import PackedAugru, PackedGru

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=9).filter(any)


def _compare(reference: nn.Module, packed: nn.Module, inputs: list[Tensor], rest: tuple[Tensor | None, ...]) -> None:
    """Outputs, gradients of the inputs and of the parameters agree."""
    results = []
    for layer in (reference, packed):
        layer.zero_grad()
        leaves = [each.clone().requires_grad_() for each in inputs]
        output = layer(*leaves, *rest)
        weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
        (output * weight).sum().backward()
        gradients = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
        results.append((output.detach(), [leaf.grad for leaf in leaves], gradients))
    (output, of_inputs, of_parameters), (other, other_inputs, other_parameters) = results
    torch.testing.assert_close(other, output, rtol=1e-9, atol=1e-12)
    for one, two in zip(other_inputs, of_inputs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
    assert other_parameters.keys() == of_parameters.keys()
    for name, gradient in of_parameters.items():
        torch.testing.assert_close(other_parameters[name], gradient, rtol=1e-9, atol=1e-12)


@settings(max_examples=30)
@given(LENGTHS, st.integers(0, 3))
def test_gru(lengths: list[int], extra: int) -> None:
    torch.manual_seed(0)
    gru = Gru(3, 4).double()
    x = torch.randn(len(lengths), max(lengths) + extra, 3, dtype=torch.float64)
    _compare(gru, PackedGru(gru), [x], (torch.tensor(lengths),))


@settings(max_examples=30)
@given(LENGTHS, st.integers(0, 3), st.booleans())
def test_augru(lengths: list[int], extra: int, shared: bool) -> None:
    torch.manual_seed(0)
    augru = Augru(3, 4).double()
    user_of = torch.randint(len(lengths), (13,)) if shared else None
    steps = max(lengths) + extra
    x = torch.randn(len(lengths), steps, 3, dtype=torch.float64)
    scores = torch.rand(13 if shared else len(lengths), steps, dtype=torch.float64)
    _compare(augru, PackedAugru(augru), [x, scores], (torch.tensor(lengths), user_of))


def test_rows_that_are_all_empty_have_no_state() -> None:
    lengths, x = torch.zeros(3, dtype=torch.int64), torch.randn(3, 1, 4)
    assert PackedGru(Gru(4, 5))(x, lengths).tolist() == [[[0.0] * 5]] * 3
    assert PackedAugru(Augru(4, 5))(x, torch.rand(3, 1), lengths, None).tolist() == [[0.0] * 5] * 3
