"""bf16 and tf32 in training: products against those of rounded operands in double precision; what stays in fp32."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from optimizations.rounded_training import RoundedLinear, Rounding
from optimizations.tf32.lower_torch import rounded as to_tf32
from tests.parity.test_training_steps import CONFIGS, plan_of, training_of

FORMATS: dict[str, tuple[Rounding, float]] = {"bf16": (Tensor.bfloat16, 2.0**-8), "tf32": (to_tf32, 2.0**-24)}
"""Half a unit in the last place of a product: in bfloat16 (8 bits of significand), in fp32; relative."""
OPTS = [{name: {}, **more} for name in FORMATS for more in ({}, {"fusion": {}})]


def test_tf32_keeps_ten_bits_to_the_nearest_even() -> None:
    """Against the definition (NVIDIA, "TensorFloat-32 in the A100 GPU", 2020), by exact arithmetic."""
    step = 2.0**-10
    given = torch.tensor([1.0, 1 + step / 2, 1 + 3 * step / 2, 1 + step / 2 + 2**-20, -1 - 0.49 * step, 3e38, 1e-30])
    expected = [1.0, 1.0, 1 + 2 * step, 1 + step, -1.0]
    assert to_tf32(given)[:5].tolist() == expected
    assert ((to_tf32(given) - given).abs() <= 2.0**-11 * given.abs()).all()


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20)
@given(rows=st.integers(1, 40), inputs=st.integers(1, 70), outputs=st.integers(1, 50), seed=st.integers(0, 2**16))
def test_each_product_is_that_of_rounded_operands(name: str, rows: int, inputs: int, outputs: int, seed: int) -> None:
    rounding, eps = FORMATS[name]

    def rounded(x: Tensor) -> Tensor:
        return rounding(x).double()

    def assert_rounded(found: Tensor, exact: Tensor, terms: Tensor) -> None:
        """``found`` is ``exact`` rounded once, but for what summing ``terms`` (of absolute values) in fp32 does."""
        assert ((found.double() - exact).abs() <= eps * exact.abs() + 2.0**-20 * terms).all()

    generator = torch.Generator().manual_seed(seed)
    reference = nn.Linear(inputs, outputs)
    layer = RoundedLinear(reference, rounding)
    x = torch.randn(rows, inputs, generator=generator, requires_grad=True)
    gradient = torch.randn(rows, outputs, generator=generator)
    y = layer(x)
    y.backward(gradient)
    a, w, g = rounded(x.detach()), rounded(reference.weight.detach()), rounded(gradient)
    product, terms = a @ w.T, a.abs() @ w.T.abs()
    assert_rounded(y.double() - reference.bias.double(), product, terms + 1)
    assert x.grad is not None and reference.weight.grad is not None and reference.bias.grad is not None
    assert_rounded(x.grad, g @ w, g.abs() @ w.abs())
    assert_rounded(reference.weight.grad, g.T @ a, g.T.abs() @ a.abs())
    torch.testing.assert_close(reference.bias.grad, gradient.sum(0), rtol=1e-5, atol=1e-5)
    assert {each.dtype for each in (y, x.grad, reference.weight, reference.weight.grad)} == {torch.float32}


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_it_trains_in_the_open_division_and_leaves_what_makes_the_logit(name: str, dtype: str) -> None:
    plan = plan_of(name, {"fusion": {}, dtype: {}})
    assert {step.name: step.division for step in plan.steps} == {"fusion": "closed", dtype: "open"}
    rounded_blocks = {block.path for block in plan.pipeline.blocks if block.dtype == dtype}
    layers = [block for block in plan.pipeline.blocks if block.role == "fc" and block.kind != "auxiliary"]
    assert rounded_blocks == {
        block.path for block in layers if dict(block.shape)["outputs"] > 1 and block.kind != "wide"
    }
    assert rounded_blocks


@pytest.mark.parametrize("opts", OPTS, ids="+".join)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_step_goes_where_the_plain_one_does(name: str, opts: dict[str, dict[str, int]]) -> None:
    """Same parameters, in fp32. The first step of Adam is the sign of a gradient: where the layers' weights move, at
    most one in fifty moves the other way, as gradients do that are smaller than what rounding leaves of them."""
    plain, rounded_one = training_of(name, {}), training_of(name, opts)
    assert [step["fallbacks"] for step in rounded_one.report] == [[]] * len(opts)
    start = {path: array.copy() for path, array in plain.state().items()}
    plain.train(1)
    rounded_one.train(1)
    ends = [session.state() for session in (plain, rounded_one)]
    assert all(array.dtype == start[path].dtype for path, array in ends[1].items())
    layers = [path for path in start if path.endswith("linear.weight")]
    ways = [torch.cat([torch.from_numpy(end[path] - start[path]).flatten().sign() for path in layers]) for end in ends]
    moving = ways[0] != 0
    assert moving.sum() > 100
    assert (ways[0] != ways[1])[moving].double().mean() < 0.02
    assert any((ends[0][path] != ends[1][path]).any() for path in layers)
