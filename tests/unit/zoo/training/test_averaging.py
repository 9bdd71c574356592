"""The lazy average against the weighted mean of all weights there were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from zoo.averaging import WeightAverage

DECAY, STEPS = 0.9, 20


def _parameters(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _trained(model: nn.Module, tables: list[nn.Embedding], average: WeightAverage, look: int) -> list[torch.Tensor]:
    """20 steps of SGD on two rows each; looked at every ``look``. The mean of w_1 ... w_20, weight 0.9^(20 - i)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rng = np.random.default_rng(3)
    wanted = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        rows = torch.from_numpy(rng.integers(0, 8, 2))
        sum((table(rows) * (table(rows) - 1)).sum() for table in tables).backward()
        average.before_step()
        optimizer.step()
        for mean, weights in zip(wanted, _parameters(model), strict=True):
            mean += DECAY ** (STEPS - step) * weights
        if step % look == 0:
            own = _parameters(model)
            with average.applied():
                pass
            assert all(torch.equal(a, b) for a, b in zip(own, _parameters(model), strict=True))
    return [mean / ((1 - DECAY**STEPS) / (1 - DECAY)) for mean in wanted]


@pytest.mark.parametrize("look", [1, 5, STEPS])
def test_sparse_and_dense_rows_get_the_weighted_mean_of_all_steps(look: int) -> None:
    tables = [nn.Embedding(10, 3, sparse=sparse, dtype=torch.float64) for sparse in (True, False)]
    model = nn.ModuleList(tables)
    average = WeightAverage(model, DECAY)
    wanted = _trained(model, tables, average, look)
    untouched = tables[0].weight.detach()[8:].clone()
    with average.applied():
        for got, mean in zip(_parameters(model), wanted, strict=True):
            torch.testing.assert_close(got, mean, rtol=0, atol=1e-12)
        assert torch.equal(tables[0].weight.detach()[8:], untouched)


def test_a_steady_climb_lags_by_its_closed_form() -> None:
    """w_i = i: the mean is t - d / (1 - d) + t d^t / (1 - d^t)."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.8)
    for _ in range(6):
        model.weight.grad = -torch.ones_like(model.weight)
        average.before_step()
        with torch.no_grad():
            model.weight -= model.weight.grad
    with average.applied():
        assert model.weight.item() == pytest.approx(6 - 4 + 6 * 0.8**6 / (1 - 0.8**6), abs=1e-12)
    assert model.weight.item() == 6


def test_before_the_first_step_it_is_the_weights() -> None:
    model = nn.Linear(2, 1)
    own = _parameters(model)
    with WeightAverage(model, DECAY).applied():
        assert all(torch.equal(a, b) for a, b in zip(own, _parameters(model), strict=True))
