"""The recurrences of the fit loop on the native kernels against the layers of the reference in double precision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from optimizations.fusion.native_evolution import NativeEvolution
from optimizations.kernels.loader import load_kernels
from optimizations.trainer import evolve_fastest, main, recurrence
from zoo.checkpoint import load_weights
from zoo.layers.augru import Augru, Gru
from zoo.layers.packed_recurrence import Evolve, PackedAugru, PackedGru, evolve

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any)
# One vector, several, and tails of either; the published size is 36.
HIDDEN = st.sampled_from([1, 4, 16, 17, 36])


def _compare(reference: nn.Module, native: nn.Module, inputs: list[Tensor], rest: tuple[Tensor | None, ...]) -> None:
    """Outputs, gradients of the inputs and of the parameters agree to within the rounding of sums in fp32."""
    results = []
    for layer, dtype in ((native, torch.float32), (reference.double(), torch.float64)):
        layer.zero_grad()
        leaves = [each.clone().to(dtype).requires_grad_() for each in inputs]
        output = layer(*leaves, *rest)
        weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).to(dtype).view(output.shape)
        (output * weight).sum().backward()
        gradients = [parameter.grad.clone() for _, parameter in sorted(layer.named_parameters())]
        results.append([output.detach(), *(leaf.grad for leaf in leaves), *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(LENGTHS, HIDDEN, st.integers(0, 2))
def test_gru(lengths: list[int], hidden: int, extra: int) -> None:
    torch.manual_seed(0)
    gru, copy = Gru(3, hidden), Gru(3, hidden)
    copy.load_state_dict(gru.state_dict())
    x = torch.randn(len(lengths), max(lengths) + extra, 3)
    _compare(gru, PackedGru(copy, NativeEvolution.apply), [x], (torch.tensor(lengths),))


@settings(max_examples=40)
@given(LENGTHS, HIDDEN, st.integers(0, 2), st.booleans())
def test_augru(lengths: list[int], hidden: int, extra: int, shared: bool) -> None:
    torch.manual_seed(0)
    augru, copy = Augru(3, hidden), Augru(3, hidden)
    copy.load_state_dict(augru.state_dict())
    user_of = torch.randint(len(lengths), (53,)) if shared else None
    steps = max(lengths) + extra
    inputs = [torch.randn(len(lengths), steps, 3), torch.rand(53 if shared else len(lengths), steps)]
    _compare(augru, PackedAugru(copy, NativeEvolution.apply), inputs, (torch.tensor(lengths), user_of))


def test_threads_change_nothing() -> None:
    torch.manual_seed(0)
    running = [200] * 20 + [77] * 10
    tensors = [torch.randn(sum(running), 108), torch.rand(sum(running), 1), torch.randn(108, 36), torch.randn(108)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaves = [each.clone().requires_grad_() for each in tensors]
            states = NativeEvolution.apply(*leaves, running)
            states.square().sum().backward()
            results.append([states.detach(), leaves[0].grad, leaves[1].grad])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def _train(folder: Path) -> dict[str, np.ndarray]:
    """What ``python -m optimizations.trainer`` does."""
    out = folder / "weights.npz"
    spec = {
        "model": {"name": "dien"},
        "dataset": "planted",
        "dataset_options": {"shape": "sequence", "size": "tiny", "train_users": 400},
        "cache_dir": str(folder / "cache"),
        "training": {"max_epochs": 1, "batch_size": 400, "threads": 1},
        "out": str(out),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    main(str(folder / "spec.json"), evolve_fastest)
    return load_weights(out)


@pytest.fixture
def unbuilt() -> Iterator[None]:
    """What is built is looked for again, in the test and after it."""
    for cached in (load_kernels, recurrence):
        cached.cache_clear()
    yield
    for cached in (load_kernels, recurrence):
        cached.cache_clear()


def test_a_training_without_a_compiler_learns_the_same(
    tmp_path: Path, unbuilt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = _train(tmp_path)
    assert recurrence() is not evolve
    for cached in (load_kernels, recurrence):
        cached.cache_clear()
    monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
    framework = _train(tmp_path)
    assert recurrence() is evolve
    assert native.keys() == framework.keys()
    for name, array in framework.items():
        # Adam divides by the size of the gradient: where that is rounding alone, a step of either sign is right.
        close = np.isclose(native[name], array, rtol=1e-3, atol=1e-4)
        assert close.mean() > 0.98, name


def test_the_framework_trains_where_nothing_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    native: Evolve = recurrence()
    for cached in (load_kernels, recurrence):
        cached.cache_clear()
    try:
        monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
        assert recurrence() is evolve is not native
    finally:
        for cached in (load_kernels, recurrence):
            cached.cache_clear()
