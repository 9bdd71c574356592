from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from zoo.configs import WdlConfig
from zoo.models import build_model
from zoo.optimizers import Adagrad, FtrlProximal, build_optimizers, rate_schedules
from zoo.schema import Schema
from zoo.training_config import TrainingConfig

STEPS = 30


def _batches() -> list[torch.Tensor]:
    """Rows with repeats, some never touched."""
    rng = np.random.default_rng(3)
    return [torch.from_numpy(rng.integers(0, 15, 12)) for _ in range(STEPS)]


def _train(sparse: bool, optimizer: str, initial: float = 0.0) -> torch.Tensor:
    torch.manual_seed(0)
    table = nn.Embedding(20, 6, sparse=sparse)
    target = torch.randn(20, 6)
    if optimizer == "ours":
        step: torch.optim.Optimizer = Adagrad(table.parameters(), lr=0.1, initial=initial)
    else:
        step = torch.optim.Adagrad(table.parameters(), lr=0.1, initial_accumulator_value=initial)
    for rows in _batches():
        step.zero_grad()
        (table(rows) - target[rows]).pow(2).mul(0.5).sum().backward()
        step.step()
    return table.weight.detach()


@pytest.mark.parametrize("initial", [0.0, 0.1])
def test_sparse_adagrad_equals_torch_on_the_dense_gradient(initial: float) -> None:
    torch.testing.assert_close(_train(True, "ours", initial), _train(False, "torch", initial), rtol=0, atol=1e-7)


def test_dense_adagrad_equals_torch_bitwise() -> None:
    assert torch.equal(_train(False, "ours"), _train(False, "torch"))


def test_l2_pulls_only_the_touched_rows() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = Adagrad(table.parameters(), lr=0.1, l2=0.5)
    (table(torch.tensor([1, 3])) * 0).sum().backward()
    optimizer.step()
    after = table.weight.detach()
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    # the first Adagrad step is lr * sign(gradient), and the gradient is l2 * weight
    torch.testing.assert_close(after[[1, 3]], before[[1, 3]] - 0.1 * before[[1, 3]].sign())


class _ScalarFtrl:
    """Algorithm 1 of McMahan et al. (2013) for one coordinate, in Python floats."""

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2
        self.z = self.n = self.w = 0.0

    def update(self, g: float) -> None:
        sigma = (math.sqrt(self.n + g * g) - math.sqrt(self.n)) / self.alpha
        self.z += g - sigma * self.w
        self.n += g * g
        if abs(self.z) <= self.l1:
            self.w = 0.0
        else:
            sign = 1.0 if self.z > 0 else -1.0
            self.w = -(self.z - sign * self.l1) / ((self.beta + math.sqrt(self.n)) / self.alpha + self.l2)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("l1", [0.0, 4.0])
def test_ftrl_equals_the_published_algorithm(sparse: bool, l1: float) -> None:
    table = nn.Embedding(20, 1, sparse=sparse, _weight=torch.zeros(20, 1, dtype=torch.float64))
    optimizer = FtrlProximal(table.parameters(), alpha=0.3, beta=1.0, l1=l1, l2=0.2)
    scalars = [_ScalarFtrl(0.3, 1.0, l1, 0.2) for _ in range(20)]
    target = np.linspace(-1, 1, 20)
    for rows in _batches():
        gradient = {int(row): 0.0 for row in rows}
        for row in rows.tolist():
            gradient[row] += scalars[row].w - target[row]
        optimizer.zero_grad()
        (table(rows)[:, 0] - torch.from_numpy(target)[rows]).pow(2).mul(0.5).sum().backward()
        optimizer.step()
        for row, g in gradient.items():
            scalars[row].update(g)
    got = table.weight.detach().numpy()[:, 0]
    np.testing.assert_allclose(got, [scalar.w for scalar in scalars], atol=1e-12)
    assert not got[15:].any()
    assert (got == 0).sum() > 5 if l1 else (got[:15] != 0).all()


def test_every_parameter_has_one_optimizer_of_its_kind(mixed: Schema) -> None:
    model = build_model(WdlConfig(deep_units=(8,)), mixed)
    optimizers = build_optimizers(model, TrainingConfig())
    names = {id(p): name for name, p in model.named_parameters()}
    owned = {
        type(optimizer).__name__: sorted(names[id(p)] for group in optimizer.param_groups for p in group["params"])
        for optimizer in optimizers
    }
    assert sorted(name for group in owned.values() for name in group) == sorted(names.values())
    assert all(name.startswith("embedding.") for name in owned["Adagrad"])
    assert all(name.startswith("wide.") for name in owned["FtrlProximal"])
    assert owned["Adam"] == ["deep.0.linear.bias", "deep.0.linear.weight", "out.linear.bias", "out.linear.weight"]


def test_rates_fall_in_a_line() -> None:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    adagrad, ftrl = Adagrad([weights[0]], lr=0.4), FtrlProximal([weights[1]], alpha=0.1)
    schedules = rate_schedules([adagrad, ftrl], 5, 0.25)
    rates = []
    for _ in range(5):
        rates.append(adagrad.param_groups[0]["lr"])
        adagrad.step()
        for schedule in schedules:
            schedule.step()
    np.testing.assert_allclose(rates, [0.4, 0.325, 0.25, 0.175, 0.1])
    assert ftrl.param_groups[0]["alpha"] == 0.1
