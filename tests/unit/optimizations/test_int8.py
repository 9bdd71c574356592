"""int8: which layers, and how a weight becomes integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimizations.contract import PlanError
from optimizations.int8.quantization import LARGEST, Int8Product, quantized
from optimizations.plan import available, first_pipeline, resolve
from zoo.configs import DlrmConfig, WdlConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)


def test_every_layer_but_the_logit_is_on_integers() -> None:
    plan = resolve(first_pipeline(WdlConfig(), SCHEMA, "torch", "cpu", "serve"), {"int8": {}}, frozenset())
    assert {b.path: b.dtype for b in plan.pipeline.blocks if b.role == "fc"} == {
        "deep.0": "int8", "deep.1": "int8", "deep.2": "int8", "out": "fp32",
    }  # fmt: skip
    assert plan.division == "open"


def test_it_is_native_where_bytes_are_multiplied() -> None:
    native = available()["int8"].native
    assert native(frozenset({"avx512_vnni"})) and native(frozenset({"avx_vnni"})) and native(frozenset({"amx_int8"}))
    assert not native(frozenset({"avx2", "avx512_bf16"}))


def test_a_layer_has_one_precision() -> None:
    pipeline = first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve")
    with pytest.raises(PlanError, match="both write the slot"):
        resolve(pipeline, {"int8": {}, "bf16": {}}, frozenset())
    both = resolve(pipeline, {"int8": {}, "bf16": {"fc": False}}, frozenset()).pipeline
    assert {b.dtype for b in both.blocks if b.role == "embedding"} == {"bf16"}


@given(outputs=st.integers(1, 9), inputs=st.integers(1, 40), seed=st.integers(0, 99), known=st.booleans())
def test_a_weight_is_within_half_a_step_of_its_integers(outputs: int, inputs: int, seed: int, known: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) * torch.logspace(-2, 2, inputs)
    largest = torch.rand(inputs, generator=generator) if known else torch.zeros(inputs)
    q = quantized(weight, largest)
    assert q.integers.dtype == torch.int8 and q.integers.abs().max() <= LARGEST
    assert torch.equal(q.integers.abs().amax(1), torch.full((outputs,), LARGEST, dtype=torch.int8))
    back = q.integers * q.scale.unsqueeze(1) * q.inverse
    assert torch.all((back - weight).abs() <= 0.5001 * q.scale.unsqueeze(1) * q.inverse + 1e-9)


def test_a_wide_input_leaves_the_others_their_precision() -> None:
    """One input a thousand times the others: without calibration they fall below one step, with it they do not."""
    torch.manual_seed(3)
    weight, x = torch.randn(16, 32), torch.randn(200, 32)
    weight[:, 0] /= 1000.0
    x[:, 0] *= 1000.0
    exact = x @ weight.T

    def error(largest: torch.Tensor) -> float:
        return float((Int8Product(quantized(weight, largest), torch.zeros(16))(x) - exact).std() / exact.std())

    assert error(torch.zeros(32)) > 0.3
    assert error(x.abs().amax(0)) < 0.03


def test_the_framework_multiplies_the_same_integers() -> None:
    torch.manual_seed(4)
    weight, bias, x = torch.randn(7, 33), torch.randn(7), torch.randn(5, 33)
    q = quantized(weight, x.abs().amax(0))
    scaled = x * q.inverse
    low, width = scaled.amin(1, keepdim=True), scaled.amax(1, keepdim=True) - scaled.amin(1, keepdim=True)
    operand = ((scaled - low) * (255 / width) + 0.5).floor().double() * width.double() / 255 + low.double()
    expected = operand @ (q.integers.double() * q.scale.double().unsqueeze(1)).T + bias.double()
    torch.testing.assert_close(Int8Product(q, bias)(x).double(), expected, rtol=1e-5, atol=1e-5)
