"""NaN and infinities in what the kernels are given: they come out where the framework's come out, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optimizations.fusion.torch_dense import FusedFullyConnected
from optimizations.fusion.torch_features import FusedFeatures
from optimizations.int8.quantization import Int8Product, quantized
from zoo.layers.features import FeatureTransform, to_tensors
from zoo.layers.mlp import FullyConnected
from zoo.schema import Batch, DenseField, IdField, Rows, Schema

INPUTS = [*range(1, 34), 64, 100]
ROWS = 3
"""The one in the middle is spoilt."""


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [ROWS, 40])
def test_bytes_have_no_place_for_them(spoilt: float, rows: int) -> None:
    """At every place of a row: no output of that row is a number, as with the framework, and the others are theirs."""
    torch.manual_seed(6)
    for inputs in INPUTS:
        layer = FullyConnected(inputs, 5, "none").eval().requires_grad_(False)
        weight = quantized(layer.linear.weight, torch.ones(inputs))
        fused, plain = FusedFullyConnected(layer, "int8", 1, weight), Int8Product(weight, layer.linear.bias)
        clean = torch.randn(rows, inputs)
        before = fused(clean)
        assert before.isfinite().all()
        for place in range(inputs):
            x = clean.clone()
            x[1, place] = spoilt
            found = fused(x)
            assert torch.equal(found.isnan(), plain(x).isnan()), (inputs, place)
            assert found[1].isnan().all(), (inputs, place)
            assert torch.equal(found[[0, *range(2, rows)]], before[[0, *range(2, rows)]]), (inputs, place)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "tf32"])
def test_rounded_operands_keep_them(dtype: str) -> None:
    torch.manual_seed(6)
    for inputs in INPUTS:
        fused = FusedFullyConnected(FullyConnected(inputs, 5, "none").eval().requires_grad_(False), dtype, 1)
        x = torch.randn(ROWS, inputs)
        x[1, inputs // 2] = np.nan
        assert fused(x).isnan().all(1).tolist() == [False, True, False]


EXTREMES = np.array(
    [np.nan, np.inf, -np.inf, 3e38, -3e38, np.finfo(np.float32).max, 1e-40, -1e-40, 1e-45, 0.0, -0.0, 1.0], np.float32
)


@pytest.mark.parametrize("columns", [1, 5, 17])
@pytest.mark.parametrize("transforms", [("log",), ("none",), ("log", "none")])
def test_dense_columns_of_extremes_become_what_the_reference_makes_of_them(
    columns: int, transforms: tuple[str, ...]
) -> None:
    fields = tuple(
        DenseField(name=f"I{k}", side="item", transform=transforms[k % len(transforms)], mean=0.25, std=1.5)
        for k in range(columns)
    )
    bucket = IdField(name="bucket", side="item", column=0, table="bucket", rows=8, source="bucket")
    schema = Schema(name="s", dense=fields, ids=(bucket,))
    dense = np.stack([np.roll(EXTREMES, k) for k in range(columns)], 1)
    none = np.zeros(0, np.int64)
    item = Rows(dense, np.zeros((len(dense), 0), np.int64), none, np.zeros(1, np.int64))
    user = Rows(np.zeros((1, 0), np.float32), np.zeros((1, 0), np.int64), none, np.zeros(1, np.int64))
    history, offsets = np.zeros((0, 0), np.int64), np.zeros(2, np.int64)
    raw = to_tensors(Batch(user, item, history, offsets, np.zeros(len(dense), np.int64)))
    found, expected = FusedFeatures(schema)(raw).item, FeatureTransform(schema)(raw).item
    assert np.array_equal(found.dense.isinf(), expected.dense.isinf())
    torch.testing.assert_close(found.dense, expected.dense, rtol=1e-6, atol=1e-7)
    assert torch.equal(found.rows, expected.rows)
