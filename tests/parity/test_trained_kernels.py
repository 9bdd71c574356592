"""Kernels of fusion in training against the zoo's layers in double precision: odd widths, no steps, one and many."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from optimizations.fusion.dense_optimizer import FusedAdam
from optimizations.fusion.trained_attention import trained_attention
from optimizations.fusion.trained_auxiliary import trained_auxiliary
from optimizations.fusion.trained_dense import trained_relu
from optimizations.fusion.trained_dice import trained_dice
from optimizations.fusion.trained_interaction import trained_interaction
from optimizations.fusion.trained_recurrence import TrainedAugru, TrainedGru
from optimizations.kernels.loader import load_kernels
from optimizations.kernels.openmp import share_openmp_threads
from zoo.layers.attention import LocalActivationUnit, SoftmaxAttention
from zoo.layers.augru import Augru, Gru
from zoo.layers.interaction import DotInteraction
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.models.dien import AuxiliaryNet

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=30)
LONG = [0, 200, 1, 3, 0, 50]


def _results(module: nn.Module, inputs: list[Tensor], run: Callable[..., Tensor]) -> list[Tensor]:
    """Output, gradients of the inputs and of the parameters, buffers that are kept."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    out = run(module, *leaves)
    # More of one sign: a sum that cancels, as the bias's gradient over an even slope would, has no digit to agree in.
    slope = torch.linspace(-0.5, 1, out.numel(), dtype=torch.float64)
    (out * slope.to(out).view(out.shape)).sum().backward()
    gradients = [own.new_zeros(own.shape) if own.grad is None else own.grad for own in (*leaves, *module.parameters())]
    parameters = dict(module.named_parameters())
    return [out.detach(), *gradients, *(own for name, own in module.state_dict().items() if name not in parameters)]


def _compare(
    module: nn.Module, trained: Callable[[nn.Module], nn.Module], inputs: list[Tensor], run: Callable[..., Tensor]
) -> None:
    """The native layer in fp32 on three threads against the reference in fp64, to within the rounding of sums."""
    reference, before = copy.deepcopy(module).double(), torch.get_num_threads()
    native = trained(module)
    torch.set_num_threads(3)
    try:
        mine = _results(native.train(), inputs, run)
    finally:
        torch.set_num_threads(before)
    theirs = _results(reference.train(), [each.double() for each in inputs], run)
    for ours, exact in zip(mine, theirs, strict=True):
        size = float(exact.abs().max()) if exact.numel() else 0.0
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-5 * max(size, 0.1))


@settings(max_examples=25)
@given(LENGTHS, st.sampled_from([(5, 3, (6, 4)), (36, 36, (100, 50)), (17, 33, (7,)), (1, 1, (1, 20, 2))]))
@example(LONG, (36, 36, (100, 50)))
@example([2], (3, 5, (2,)))
def test_the_auxiliary_loss(lengths: list[int], sizes: tuple[int, int, tuple[int, ...]]) -> None:
    hidden, width, units = sizes
    torch.manual_seed(1)
    counts, steps = torch.tensor(lengths), max(1, *lengths)
    states, history = torch.randn(len(lengths), steps, hidden), torch.randn(len(lengths), steps, width)
    rows, table = torch.randint(9, (len(lengths), steps, 1)), torch.randn(9, width)

    def run(net: AuxiliaryNet, states: Tensor, history: Tensor, table: Tensor) -> Tensor:
        return 0.5 * net.loss(states, history, rows, counts, lambda found: table[found.squeeze(1)])

    _compare(AuxiliaryNet(hidden, width, units), trained_auxiliary, [states, history, table], run)


@pytest.mark.parametrize("kind", [LocalActivationUnit, SoftmaxAttention])
@settings(max_examples=25)
@given(LENGTHS, st.sampled_from([(6, (8, 4)), (36, (80, 40)), (17, (5,)), (1, (3, 33, 2))]))
@example(LONG, (36, (80, 40)))
@example([2], (3, (2,)))
@example([0, 0], (3, (2,)))
@example([1], (3, (2,)))
def test_the_activation_units(kind: type[nn.Module], lengths: list[int], sizes: tuple[int, tuple[int, ...]]) -> None:
    width, units = sizes
    torch.manual_seed(2)
    unit = kind(width, units) if kind is LocalActivationUnit else kind(5, width, units)
    for name, parameter in unit.named_parameters():
        if name.endswith(("bias", "alpha")):
            nn.init.normal_(parameter)
    query = torch.randn(len(lengths), width if kind is LocalActivationUnit else 5)
    keys, counts = torch.randn(len(lengths), max(1, *lengths), width), torch.tensor(lengths)
    if kind is LocalActivationUnit and 1 < sum(lengths) < 8:
        return  # the variance of so few ratings may be next to nothing, and its inverse anything
    _compare(unit, trained_attention, [query, keys], lambda unit, query, keys: unit(query, keys, counts, None))


@pytest.mark.parametrize("kind", [Gru, Augru])
@settings(max_examples=25)
@given(LENGTHS, st.sampled_from([(3, 5), (36, 36), (1, 1), (17, 16), (5, 70)]), st.integers(0, 2))
@example(LONG, (36, 36), 0)
@example([0, 0], (3, 4), 0)
@example([1] * 13, (3, 4), 1)
def test_the_recurrences(kind: type[nn.Module], lengths: list[int], sizes: tuple[int, int], padding: int) -> None:
    inputs, hidden = sizes
    torch.manual_seed(7)
    counts, steps = torch.tensor(lengths), max(1, *lengths) + padding
    given = [torch.randn(len(lengths), steps, inputs)]
    if kind is Gru:
        return _compare(Gru(inputs, hidden), TrainedGru, given, lambda layer, x: layer(x, counts))
    given.append(torch.rand(len(lengths), steps))
    return _compare(Augru(inputs, hidden), TrainedAugru, given, lambda layer, x, a: layer(x, a, counts, None))


def test_a_row_longer_than_its_room_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has more than 2 steps"):
        TrainedGru(Gru(3, 4))(torch.randn(2, 2, 3), torch.tensor([2, 3]))


@settings(max_examples=25)
@given(st.integers(1, 150), st.integers(1, 90), st.sampled_from([1, 6, 16, 17, 80, 260]))
@example(109, 30, 1)
@example(512, 367, 512)
@example(1, 1, 1)
def test_layers_with_relu(rows: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(8)
    layer = FullyConnected(inputs, outputs, "relu")
    nn.init.normal_(layer.linear.bias)
    # Far from the kink: which way rounding falls there is nobody's.
    x = torch.randn(rows, inputs)
    layer.linear.bias.data[(layer.linear(x).abs() < 1e-3).any(0)] += 50.0
    _compare(layer, trained_relu, [x], lambda layer, x: layer(x))


def test_a_layer_hands_nothing_back_to_inputs_that_want_none() -> None:
    torch.manual_seed(9)
    layer = trained_relu(FullyConnected(13, 40, "relu"))
    x = torch.randn(70, 13)
    layer(x).sum().backward()
    assert x.grad is None
    kept = (layer(x) > 0).float()
    torch.testing.assert_close(layer.linear.weight.grad, kept.T @ x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.linear.bias.grad, kept.sum(0), rtol=1e-5, atol=1e-5)


def _stack() -> FullyConnectedStack:
    torch.manual_seed(10)
    return FullyConnectedStack(13, (40, 17, 6), "relu").train()


def _native(stack: nn.Module, kept: int | None = None) -> nn.Module:
    """With its layers on the native kernels, but for the one of number ``kept``."""
    for number in {0, 1, 2} - {kept}:
        stack[number] = trained_relu(stack[number])  # type: ignore[index,operator]
    return stack


def test_layers_that_follow_one_another_are_one_step_with_the_same_bits() -> None:
    stack, apart = _native(_stack()), _native(_stack())
    x = torch.randn(70, 13)

    def one_by_one(layers: nn.Module, x: Tensor) -> Tensor:
        for layer in layers:  # type: ignore[attr-defined]
            x = layer(x)
        return x

    whole = _results(stack, [x], lambda layers, x: layers(x))
    for mine, theirs in zip(whole, _results(apart, [x], one_by_one), strict=True):
        assert torch.equal(mine, theirs)
    leaf = x.clone().requires_grad_()
    (before, _), *_ = stack(leaf).grad_fn.next_functions
    assert before.variable is leaf


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_layer_of_the_frameworks_may_stand_among_them(kept: int) -> None:
    _compare(_stack(), lambda stack: _native(stack, kept), [torch.randn(70, 13)], lambda stack, x: stack(x))


def test_dropout_acts_between_layers() -> None:
    stack, x = _native(_stack()), torch.randn(70, 13)
    stack.dropout = 0.5
    torch.manual_seed(11)
    found = stack(x)
    torch.manual_seed(11)
    expected = x
    for layer in stack:
        expected = nn.functional.dropout(layer(expected), 0.5)
    assert torch.equal(found, expected)


@settings(max_examples=25)
@given(st.integers(8, 70), st.integers(1, 40), st.sampled_from([1, 16, 17, 80]))
def test_layers_with_dice(rows: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(3)
    layer = FullyConnected(inputs, outputs, "dice")
    nn.init.normal_(layer.activation.alpha)
    _compare(layer, trained_dice, [torch.randn(rows, inputs)], lambda layer, x: layer(x))


@settings(max_examples=25)
@given(st.integers(1, 40), st.sampled_from([(1, 3), (2, 1), (27, 16), (7, 33), (13, 64)]))
def test_the_dot_interaction(samples: int, shape: tuple[int, int]) -> None:
    torch.manual_seed(4)
    count, width = shape
    vectors = torch.randn(samples, count, width)
    _compare(DotInteraction(count), trained_interaction, [vectors], lambda module, x: module(x))


def test_adam_moves_as_the_frameworks() -> None:
    torch.manual_seed(5)
    shapes = [(3,), (17, 5), (1,), (300, 70)]
    start = [torch.randn(shape) for shape in shapes]
    sides = [[nn.Parameter(each.clone()) for each in start] for _ in range(2)]
    optimizers = [
        kind(side, lr=1e-2, fused=True) for kind, side in zip((torch.optim.Adam, FusedAdam), sides, strict=True)
    ]
    for step in range(4):
        for number, pair in enumerate(zip(*sides, strict=True)):
            gradient = None if (step, number) == (0, 1) else torch.randn(shapes[number]) * 10.0 ** (number - 2)
            for parameter in pair:
                parameter.grad = None if gradient is None else gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for theirs, mine in zip(*sides, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
        state, own = optimizers[0].state[theirs], optimizers[1].state[mine]
        assert list(own) == list(state) and float(own["step"]) == float(state["step"])
        torch.testing.assert_close(own["exp_avg_sq"], state["exp_avg_sq"], rtol=1e-6, atol=1e-12)


def test_the_frameworks_threads_do_the_same_work() -> None:
    """Bit for bit: parts are added in their order, whoever computed them."""
    torch.manual_seed(6)
    unit = trained_attention(LocalActivationUnit(36, (80, 40))).train()
    query, keys, lengths = torch.randn(64, 36), torch.randn(64, 50, 36), torch.randint(0, 51, (64,))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        load_kernels().recarena_use_openmp(None)
        own = _results(unit, [query, keys], lambda unit, query, keys: unit(query, keys, lengths, None))[:3]
        assert share_openmp_threads()
        shared = _results(unit, [query, keys], lambda unit, query, keys: unit(query, keys, lengths, None))[:3]
    finally:
        torch.set_num_threads(before)
        load_kernels().recarena_use_openmp(None)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(own, shared, strict=True))
