"""What fusion puts in the place of the fit loop's layers and optimizers, against these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.estimate.parity import tensor_parity
from optimizations.fusion.packed_rows import RepeatRows, TakeRows
from optimizations.fusion.row_optimizers import FusedAdagrad, FusedFtrl
from optimizations.fusion.trained_attention import trained_attention
from optimizations.fusion.trained_features import TrainedFeatures
from optimizations.kernels.loader import load_kernels
from tests.parity.test_training_steps import CONFIGS, DATA, NO_GRADIENT, training_of
from zoo.layers.attention import LocalActivationUnit, SoftmaxAttention
from zoo.layers.features import FeatureTransform
from zoo.optimizers import Adagrad, FtrlProximal

Case = tuple[int, int, list[int]]
LISTS = st.tuples(
    st.integers(1, 5000), st.sampled_from([1, 3, 16, 18, 33]), st.lists(st.integers(0, 10**6), max_size=60)
)


def _gradient(rows: int, width: int, touched: list[int], seed: int) -> Tensor:
    index = torch.tensor([each % rows for each in touched], dtype=torch.int64).unsqueeze(0)
    torch.manual_seed(seed)
    return torch.sparse_coo_tensor(index, torch.randn(len(touched), width), (rows, width), check_invariants=False)


@settings(max_examples=60)
@given(LISTS, st.sampled_from([0.0, 1e-3]), st.sampled_from([0.0, 0.1]))
def test_adagrad_moves_the_rows_as_the_framework_does(case: Case, l2: float, initial: float) -> None:
    rows, width, touched = case
    torch.manual_seed(1)
    start = torch.randn(rows, width)
    tables = [nn.Parameter(start.clone()) for _ in range(2)]
    kinds = (Adagrad, FusedAdagrad)
    optimizers = [kind([table], 0.05, l2=l2, initial=initial) for kind, table in zip(kinds, tables, strict=True)]
    for step in range(3):
        for optimizer, table in zip(optimizers, tables, strict=True):
            table.grad = _gradient(rows, width, touched[step:], step)
            optimizer.step()
    torch.testing.assert_close(tables[1], tables[0], rtol=1e-6, atol=1e-7)
    sums = [optimizer.state[table]["sum"] for optimizer, table in zip(optimizers, tables, strict=True)]
    torch.testing.assert_close(sums[1], sums[0], rtol=1e-6, atol=1e-8)
    untouched = torch.ones(rows, dtype=torch.bool)
    untouched[[each % rows for each in touched]] = False
    assert torch.equal(tables[1][untouched], start[untouched])


@settings(max_examples=60)
@given(LISTS, st.sampled_from([0.0, 0.3]))
def test_ftrl_moves_the_rows_as_the_framework_does(case: Case, l1: float) -> None:
    rows, _, touched = case
    tables = [nn.Parameter(torch.zeros(rows, 1)) for _ in range(2)]
    kinds = (FtrlProximal, FusedFtrl)
    optimizers = [kind([table], 0.1, beta=0.002, l1=l1, l2=0.02) for kind, table in zip(kinds, tables, strict=True)]
    for step in range(3):
        for optimizer, table in zip(optimizers, tables, strict=True):
            table.grad = _gradient(rows, 1, touched[step:], step)
            optimizer.step()
    torch.testing.assert_close(tables[1], tables[0], rtol=1e-5, atol=1e-7)


def test_many_tables_of_large_numbers_on_many_threads() -> None:
    """Rows beyond one digit of the sort, lists that are cut into tiles, one table of none."""
    torch.manual_seed(2)
    sizes = [(70_000, 18, 40_000), (5, 64, 3_000), (300, 7, 0), (5_000_000, 1, 999)]
    both = [[nn.Parameter(torch.randn(rows, width)) for rows, width, _ in sizes] for _ in range(2)]
    for other, one in zip(*both, strict=True):
        other.data.copy_(one.data)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for kind, tables in zip((Adagrad, FusedAdagrad), both, strict=True):
            torch.manual_seed(4)
            for table, (rows, width, count) in zip(tables, sizes, strict=True):
                index = torch.randint(rows, (1, count))
                table.grad = torch.sparse_coo_tensor(
                    index, torch.randn(count, width), (rows, width), check_invariants=False
                )
            kind(tables, 0.05, l2=1e-4).step()
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-7)


def _agree(one: Callable[..., Tensor], other: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """Values and gradients of two functions."""
    results = []
    for function in (one, other):
        leaves = [each.clone().requires_grad_() for each in inputs]
        out = function(*leaves)
        weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
        (out * weight).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 10**6))
def test_rows_are_taken_and_repeated(rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = torch.from_numpy(rng.permutation(rows)[: rng.integers(0, rows + 1)])
    counts = torch.from_numpy(rng.integers(0, 4, rows))
    x = torch.randn(rows, width)
    _agree(lambda x: TakeRows.apply(x, index), lambda x: x[index], [x])
    _agree(lambda x: RepeatRows.apply(x, counts), lambda x: x.repeat_interleave(counts, 0), [x])


@pytest.mark.parametrize("kind", [LocalActivationUnit, SoftmaxAttention])
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(0, 7), min_size=2, max_size=20).filter(lambda lengths: sum(lengths) > 2))
def test_the_attention_taken_apart_rates_alike(kind: type[nn.Module], lengths: list[int]) -> None:
    torch.manual_seed(3)
    unit = kind(6, (8, 4)) if kind is LocalActivationUnit else kind(5, 6, (8, 4))
    unit.train()
    query = torch.randn(len(lengths), 6 if kind is LocalActivationUnit else 5)
    keys, counts = torch.randn(len(lengths), max(lengths), 6), torch.tensor(lengths)
    gradients = []
    for module in (unit, trained_attention(unit)):
        for buffer in unit.buffers():
            buffer.zero_() if buffer.shape else None
        unit.zero_grad()
        leaves = [query.clone().requires_grad_(), keys.clone().requires_grad_()]
        module.train()
        out = module(*leaves, counts, None)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        parameters = [p.grad.clone() for name, p in unit.named_parameters() if name != "score.linear.bias"]
        gradients.append([out.detach(), *(leaf.grad for leaf in leaves), *parameters])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("hashed", [True, False])
def test_sampled_behaviours_are_engineered_alike(hashed: bool) -> None:
    schema = DATA["dien"].schema
    history = tuple(dataclasses.replace(field, hashed=hashed) for field in schema.history)
    tables = {field.table: field.rows for field in history}
    ids = tuple(
        dataclasses.replace(f, hashed=hashed) if f.table in tables and f.source == "id" else f for f in schema.ids
    )
    reference = FeatureTransform(dataclasses.replace(schema, history=history, ids=ids))
    fused = TrainedFeatures(reference)
    lengths = torch.tensor([0, 3, 1, 0, 9])
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    torch.manual_seed(4)
    raw = torch.randint(-1, min(tables.values()), (13, len(history)))
    assert torch.equal(fused.behaviours(raw, offsets), reference.behaviours(raw, offsets))
    assert fused.behaviours(raw[:0], offsets[:3] * 0).shape == (2, 1, len(history))
    if not hashed:
        raw[7, 0] = history[0].rows
        for transform in (fused, reference):
            with pytest.raises(IndexError, match=f"field '{history[0].name}' got the raw id {history[0].rows}"):
                transform.behaviours(raw, offsets)


OPTS = {
    "fusion": {"fusion": {}},
    "fusion,micro_batch": {"fusion": {}, "micro_batch": {"parts": 3}},
    "fusion,stage": {"fusion": {}, "stage": {}},
}


@pytest.mark.parametrize("opts", list(OPTS))
@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_fused_training_ends_where_the_plain_one_does(name: str, opts: str, average: float) -> None:
    plain = training_of(name, {}, average=average)
    start = {path: array.copy() for path, array in plain.state().items()}
    fused = training_of(name, OPTS[opts], average=average)
    assert all(np.array_equal(array, fused.state()[path]) for path, array in start.items())
    for session in (plain, fused):
        session.train(2)
    assert list(plain.state()) == list(fused.state())
    for path, array in plain.state().items():
        row = tensor_parity("gate", path, 2, start[path], array, fused.state()[path])
        if row is not None and path not in NO_GRADIENT:
            # Small layers on few samples: elements whose gradient is rounding weigh more than in a model of full size.
            assert row.p50 < 3e-3, row
    assert fused.report[0]["fallbacks"] == [] and "train.optimizer" in fused.report[0]["matched"]


def test_without_a_compiler_the_framework_trains_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    load_kernels.cache_clear()
    try:
        monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
        session = training_of("dien", {"fusion": {}})
        assert session.train(2) == 80
        fallbacks = {line["path"] for line in session.report[0]["fallbacks"]}
        blocks = {"features", "embedding", "gru", "attention", "augru", "top.0", "top.1", "auxiliary"}
        assert fallbacks == {*blocks, "train.optimizer"}
        assert session.report[0]["matched"] == []
    finally:
        load_kernels.cache_clear()


def test_what_is_switched_off_stays_the_frameworks(tmp_path: Path) -> None:
    session = training_of("dien", {"fusion": {"embedding": False, "attention": False, "fc": False}})  # type: ignore[dict-item]
    assert session.report[0]["matched"] == ["features", "gru", "augru"]
