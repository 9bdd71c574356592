from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.layers.augru import Augru, Gru

LENGTHS = torch.tensor([4, 0, 2])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _gates(layer: Gru | Augru, x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(update gate, candidate) from the textbook equations, gate by gate."""
    w, u = layer.weight_ih.detach().numpy(), layer.weight_hh.detach().numpy()
    b, c = layer.bias_ih.detach().numpy(), layer.bias_hh.detach().numpy()
    h = len(state)
    r, z, n = slice(0, h), slice(h, 2 * h), slice(2 * h, 3 * h)
    reset = _sigmoid(w[r] @ x + b[r] + u[r] @ state + c[r])
    update = _sigmoid(w[z] @ x + b[z] + u[z] @ state + c[z])
    return update, np.tanh(w[n] @ x + b[n] + reset * (u[n] @ state + c[n]))


def test_gru_step_by_step() -> None:
    gru = Gru(5, 3).double()
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    got = gru(x, LENGTHS).detach().numpy()
    for row, length in enumerate(LENGTHS.tolist()):
        state = np.zeros(3)
        for step in range(length):
            update, candidate = _gates(gru, x[row, step].numpy(), state)
            state = (1 - update) * candidate + update * state
            np.testing.assert_allclose(got[row, step], state, atol=1e-12)
        assert not got[row, length:].any()


def test_augru_step_by_step() -> None:
    augru = Augru(5, 3).double()
    x, scores = torch.randn(3, 4, 5, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    got = augru(x, scores, LENGTHS, None).detach().numpy()
    for row, length in enumerate(LENGTHS.tolist()):
        state = np.zeros(3)
        for step in range(length):
            update, candidate = _gates(augru, x[row, step].numpy(), state)
            scaled = float(scores[row, step]) * update
            state = (1 - scaled) * state + scaled * candidate
        np.testing.assert_allclose(got[row], state, atol=1e-12)


def test_full_attention_is_a_gru_with_the_update_gate_turned_round() -> None:
    """With scores 1, u = 1 - z: negating the update gate's parameters turns an AUGRU into torch's own GRU."""
    augru, gru = Augru(5, 3).double(), Gru(5, 3).double()
    for ours, theirs in zip(augru.parameters(), gru.parameters(), strict=True):
        theirs.data = ours.detach().clone()
        theirs.data[3:6] *= -1
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    lengths = torch.tensor([6, 6])
    wanted = gru(x, lengths)[:, -1]
    torch.testing.assert_close(augru(x, torch.ones(2, 6, dtype=torch.float64), lengths, None), wanted)


def test_augru_finds_the_user_of_a_sample() -> None:
    augru = Augru(5, 3)
    x, scores, user_of = torch.randn(3, 4, 5), torch.rand(5, 4), torch.tensor([2, 0, 0, 1, 2])
    late = augru(x, scores, LENGTHS, user_of)
    torch.testing.assert_close(late, augru(x[user_of], scores, LENGTHS[user_of], None), rtol=0, atol=1e-6)


def test_augru_gradients_against_finite_differences() -> None:
    augru = Augru(4, 3).double()
    x = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    scores = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    inputs = (x, scores, *augru.parameters())

    def run(x: torch.Tensor, scores: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip([name for name, _ in augru.named_parameters()], parameters, strict=True))
        return torch.func.functional_call(augru, named, (x, scores, LENGTHS, None))

    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("layer", [Gru(7, 3), Augru(7, 3)])
def test_parameters_have_the_documented_layout(layer: Gru | Augru) -> None:
    shapes = [tuple(p.shape) for p in (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh)]
    assert shapes == [(9, 7), (9, 3), (9,), (9,)]
