from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.layers.attention import ActivationUnit, LocalActivationUnit, SoftmaxAttention
from zoo.layers.mlp import FullyConnected

LENGTHS = torch.tensor([4, 0, 2])


def _layer(layer: FullyConnected, x: np.ndarray) -> np.ndarray:
    z = x @ layer.linear.weight.detach().numpy().T.astype(np.float64) + layer.linear.bias.detach().numpy()
    if layer.kind == "none":
        return z
    if layer.kind == "sigmoid":
        return 1 / (1 + np.exp(-z))
    if layer.kind == "prelu":
        return np.where(z > 0, z, layer.activation.weight.detach().numpy() * z)
    dice = layer.activation
    gate = 1 / (1 + np.exp(-(z - dice.running_mean.numpy()) / np.sqrt(dice.running_var.numpy() + 1e-8)))
    return gate * z + (1 - gate) * dice.alpha.detach().numpy() * z


def _rating(unit: ActivationUnit, query: np.ndarray, key: np.ndarray) -> float:
    x = np.concatenate([query, key, query - key, query * key])
    for layer in unit.units:
        x = _layer(layer, x)
    return float(_layer(unit.score, x)[0])


def _randomise(unit: ActivationUnit) -> None:
    for name, value in unit.state_dict().items():
        value.copy_(torch.rand_like(value) + 0.1 if "var" in name else 0.5 * torch.randn_like(value))


@pytest.fixture
def din() -> LocalActivationUnit:
    unit = LocalActivationUnit(6, (5, 3)).eval()
    _randomise(unit)
    return unit


@pytest.fixture
def dien() -> SoftmaxAttention:
    unit = SoftmaxAttention(4, 6, (5, 3)).eval()
    _randomise(unit)
    return unit


def test_din_is_a_weighted_sum_without_softmax(din: LocalActivationUnit) -> None:
    query, keys = torch.randn(3, 6), torch.randn(3, 4, 6)
    got = din(query, keys, LENGTHS, None).detach()
    q, k = query.numpy().astype(np.float64), keys.numpy().astype(np.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        wanted = sum((_rating(din, q[row], k[row, t]) * k[row, t] for t in range(length)), np.zeros(6))
        np.testing.assert_allclose(got[row], wanted, atol=2e-6)


def test_dien_scores_are_a_masked_softmax(dien: SoftmaxAttention) -> None:
    query, keys = torch.randn(3, 4), torch.randn(3, 4, 6)
    got = dien(query, keys, LENGTHS, None).detach().numpy()
    k = keys.numpy().astype(np.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        projected = _layer(dien.query, query[row].numpy().astype(np.float64))
        ratings = np.exp([_rating(dien, projected, k[row, t]) for t in range(length)])
        np.testing.assert_allclose(got[row, :length], ratings / ratings.sum() if length else [], atol=1e-6)
        assert not got[row, length:].any()


@pytest.mark.parametrize("unit", ["din", "dien"])
def test_samples_find_their_user(unit: str, request: pytest.FixtureRequest) -> None:
    attention = request.getfixturevalue(unit)
    user_of = torch.tensor([2, 0, 0, 1, 2])
    query, keys = torch.randn(5, 6 if unit == "din" else 4), torch.randn(3, 4, 6)
    late = attention(query, keys, LENGTHS, user_of)
    first = attention(query, keys[user_of], LENGTHS[user_of], None)
    torch.testing.assert_close(late, first, rtol=0, atol=1e-7)


def test_padding_moves_nothing_in_training(din: LocalActivationUnit) -> None:
    """Dice averages over real steps only: twice the padding gives the same output, statistics and gradients."""
    query, keys = torch.randn(3, 6), torch.randn(3, 4, 6)
    results = []
    for padding in (0, 5):
        unit = LocalActivationUnit(6, (5, 3))
        unit.load_state_dict(din.state_dict())
        out = unit(query, torch.nn.functional.pad(keys, (0, 0, 0, padding), value=9.0), LENGTHS, None)
        out.square().sum().backward()
        results.append((out.detach(), unit.units[0].activation.running_var, unit.units[0].linear.weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_empty_histories_have_finite_gradients(dien: SoftmaxAttention) -> None:
    dien.train()
    keys = torch.randn(3, 4, 6, requires_grad=True)
    dien(torch.randn(3, 4), keys, LENGTHS, None).square().sum().backward()
    assert torch.isfinite(keys.grad).all()
    assert not keys.grad[1].any() and not keys.grad[2, 2:].any()
