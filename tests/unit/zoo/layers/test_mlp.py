from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.layers.mlp import Dice, FullyConnected, FullyConnectedStack


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_dice_in_training_uses_the_batch() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (50, 4)).astype(np.float32)
    dice = Dice(4)
    alpha = np.array([0.0, 0.3, -0.2, 1.0], np.float32)
    dice.alpha.data = torch.from_numpy(alpha)
    gate = _sigmoid((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-8))
    np.testing.assert_allclose(
        dice(torch.from_numpy(x)).detach(), gate * x + (1 - gate) * alpha * x, rtol=2e-5, atol=1e-6
    )
    np.testing.assert_allclose(dice.running_mean, 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(dice.running_var, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


def test_dice_in_serving_uses_moving_averages() -> None:
    dice = Dice(2).eval()
    dice.running_mean.copy_(torch.tensor([1.0, -1.0]))
    dice.running_var.copy_(torch.tensor([4.0, 0.25]))
    dice.alpha.data = torch.tensor([0.5, 0.1])
    x = np.array([[2.0, -2.0]])
    gate = _sigmoid((x - [1.0, -1.0]) / np.sqrt(np.array([4.0, 0.25]) + 1e-8))
    wanted = gate * x + (1 - gate) * np.array([0.5, 0.1]) * x
    np.testing.assert_allclose(dice(torch.tensor([[2.0, -2.0]])).detach(), wanted, rtol=1e-6)


def test_dice_learns_from_no_fewer_than_two_rows() -> None:
    dice = Dice(2)
    for rows in (0, 1):
        assert torch.isfinite(dice(torch.randn(rows, 2))).all()
    assert dice.running_mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("none", lambda z: z),
        ("relu", lambda z: np.maximum(z, 0)),
        ("sigmoid", _sigmoid),
        ("prelu", lambda z: np.where(z > 0, z, np.array([0.1, 0.2, 0.3]) * z)),
    ],
)
def test_fully_connected(activation: str, formula: object) -> None:
    layer = FullyConnected(5, 3, activation)
    if activation == "prelu":
        layer.activation.weight.data = torch.tensor([0.1, 0.2, 0.3])
    x = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach(), formula(x @ weight.T + bias), atol=1e-6)


def test_stack_chains_its_layers() -> None:
    stack = FullyConnectedStack(5, (4, 3), "relu")
    x = torch.randn(6, 5)
    torch.testing.assert_close(stack(x), stack[1](stack[0](x)), rtol=0, atol=0)


def test_dropout_acts_in_training_only() -> None:
    stack = FullyConnectedStack(8, (2000,), "none")
    x = torch.randn(1, 8)
    plain = stack(x)
    stack.dropout = 0.25
    dropped = stack(x)
    kept = dropped != 0
    assert 0.70 < kept.float().mean() < 0.80
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.75)
    torch.testing.assert_close(stack.eval()(x), plain, rtol=0, atol=0)
