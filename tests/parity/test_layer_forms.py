"""Layers by hand on the native kernels: each way to write one scores as the module does, alone and within a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.backends import torch_backend
from optimizations.fusion.torch_dense import FusedFullyConnected
from optimizations.fusion.torch_sequence import FusedAttention
from optimizations.lowering import LoweringError
from optimizations.split_layers import SplitFullyConnected
from tests.layer_forms import ACTIVATIONS, LINEAR, RELU, Part, Written
from tests.parity.tolerances import score_tolerance
from zoo.blueprint import Block
from zoo.layers.attention import LocalActivationUnit
from zoo.layers.mlp import FullyConnected

FORMS = [(kind, name) for kind, forms in ACTIVATIONS.items() for name in forms]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(9)


def agree(module: Written, rows: int, inputs: int) -> None:
    """Kernel beside module, relative to the terms of every product."""
    x = torch.randn(rows, inputs)
    scale = 1 + x.abs() @ module.weight.abs().T + module.bias.abs()
    error = (FusedFullyConnected(module, "fp32", 1)(x) - module(x)).abs() / scale
    assert error.max() < 1e-5


@pytest.mark.parametrize("linear", LINEAR)
def test_products(linear: str) -> None:
    agree(Written(21, 18, LINEAR[linear], RELU["where"]), 13, 21)


@pytest.mark.parametrize(("kind", "name"), FORMS)
def test_activations(kind: str, name: str) -> None:
    agree(Written(21, 18, LINEAR["addmm"], ACTIVATIONS[kind][name]), 13, 21)


@settings(max_examples=40)
@given(
    rows=st.integers(1, 40),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    linear=st.sampled_from(sorted(LINEAR)),
    form=st.sampled_from(FORMS),
)
def test_any_sizes(rows: int, inputs: int, outputs: int, linear: str, form: tuple[str, str]) -> None:
    assume(linear != "sum of terms" or inputs * outputs > 1)  # one number says no number of columns
    kind, name = form
    agree(Written(inputs, outputs, LINEAR[linear], ACTIVATIONS[kind][name]), rows, inputs)


class ByHand(nn.Module):
    """A layer of the zoo written otherwise: the same weights, or twice its result (``factor``)."""

    def __init__(self, layer: FullyConnected, linear: str, activation: Part, factor: float = 1.0) -> None:
        super().__init__()
        outputs, inputs = layer.linear.weight.shape
        self.written = Written(inputs, outputs, LINEAR[linear], activation)
        weight, bias = layer.linear.weight.detach(), layer.linear.bias.detach()
        written, values = self.written, {"weight": weight, "bias": bias, "stored": weight.T.contiguous()}
        for name, value in values.items():
            setattr(written, name, nn.Parameter(value.clone(), requires_grad=False))
        written.lin.weight, written.lin.bias, written.row = written.weight, written.bias, bias.clone().unsqueeze(0)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs] to [R, outputs]."""
        return self.factor * self.written(x)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[FullyConnected], nn.Module]], None]:
    """Puts another module in the place of a block of every model that is lowered from then on."""
    original = torch_backend.reference_model

    def replace(path: str, make: Callable[[FullyConnected], nn.Module]) -> None:
        def changed(context: Any) -> nn.Module:
            model = original(context)
            model.set_submodule(path, make(model.get_submodule(path)))
            return model

        monkeypatch.setattr(torch_backend, "reference_model", changed)

    return replace


def scores(session: Any, served: Any) -> np.ndarray:
    return session.predict(served.split.batch(np.arange(60, dtype=np.int64)))


@pytest.mark.parametrize("linear", ["x @ W.T + b", "addmm", "einsum to columns", "sum of terms"])
@pytest.mark.parametrize(
    ("model", "path"), [("dlrm", "top.0"), ("dlrm", "bottom.0"), ("wdl", "deep.0"), ("wdl", "out")]
)
def test_a_model_with_a_layer_by_hand(
    planted: Callable[[str], Any], replaced: Callable[..., None], model: str, path: str, linear: str
) -> None:
    served = planted(model)
    expected = scores(served.session({}), served)
    activation = ACTIVATIONS["none"]["nothing"] if path == "out" else RELU["times a condition"]
    replaced(path, lambda layer: ByHand(layer, linear, activation))
    session = served.session({"fusion": {}})
    (step,) = session.report
    assert path in step["matched"] and "passes.program" in step["matched"] and step["fallbacks"] == []
    np.testing.assert_allclose(scores(session, served), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "plan",
    [
        *("bf16", "tf32", "int8", "packed_weights", "dedup", "dedup,bf16", "packed_weights,dedup"),
        *("fusion,bf16", "fusion,tf32", "fusion,int8", "fusion,dedup", "fusion,dedup,bf16", "fusion,dedup,int8"),
    ],
)
def test_every_precision_takes_it(planted: Callable[[str], Any], replaced: Callable[..., None], plan: str) -> None:
    served = planted("wdl")
    opts: dict[str, Any] = {name: {} for name in plan.split(",")}
    expected = scores(served.session({}), served)
    as_the_zoo_writes_it = scores(served.session(opts), served)
    replaced("deep.0", lambda layer: ByHand(layer, "einsum", RELU["where"]))
    session = served.session(opts)
    assert all("deep.0" in step["matched"] and step["fallbacks"] == [] for step in session.report)
    tolerance = score_tolerance(opts)
    np.testing.assert_allclose(scores(session, served), expected, rtol=0, atol=tolerance)
    # Its product has that precision: the same numbers come out as of the zoo's layer, which is not the reference's.
    np.testing.assert_array_equal(scores(session, served), as_the_zoo_writes_it)


def test_twice_the_layer_is_another_layer(planted: Callable[[str], Any], replaced: Callable[..., None]) -> None:
    """What is fused is the replacement, not the layer that stood there."""
    served = planted("dlrm")
    before = scores(served.session({}), served)
    replaced("top.0", lambda layer: ByHand(layer, "addmm", RELU["clamp"], factor=2.0))
    expected = scores(served.session({}), served)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_allclose(scores(served.session({"fusion": {}}), served), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"bf16": {}}])
def test_what_is_not_recognised_stays_on_record(
    planted: Callable[[str], Any], replaced: Callable[..., None], more: dict[str, Any]
) -> None:
    served = planted("dlrm")
    replaced("top.0", lambda layer: ByHand(layer, "addmm", lambda m, z: nn.functional.gelu(z)))
    session = served.session({"fusion": {}, **more})
    fusion = session.report[0]
    reasons = {each["path"]: each["reason"] for each in fusion["fallbacks"]}
    assert reasons.keys() == {"top.0", "passes.program"} and "top.1" in fusion["matched"]
    assert "node 'gelu'" in reasons["top.0"] and "between two blocks" in reasons["passes.program"]
    if more:
        assert "top.0" not in session.report[1]["matched"]
    expected = scores(served.session({}), served)
    np.testing.assert_allclose(scores(session, served), expected, rtol=0, atol=5e-3 if more else 1e-5)


def test_a_layer_of_other_sizes_is_refused(planted: Callable[[str], Any], replaced: Callable[..., None]) -> None:
    """A layer is what the model describes at that place, or it is none."""
    served = planted("dlrm")
    replaced("top.0", lambda layer: FullyConnected(3, layer.linear.out_features, "relu").requires_grad_(False))
    narrow, shape = FullyConnected(3, 4, "relu").requires_grad_(False), (("inputs", 6), ("outputs", 4))
    block = Block(path="x", role="fc", kind="relu", shape=shape, side="mixed", user_columns=((0, 2),))
    with pytest.raises(LoweringError, match="a layer of 3 x 4"):
        SplitFullyConnected(narrow, block)
    (step,) = served.session({"fusion": {}}).report
    (reason,) = (each["reason"] for each in step["fallbacks"] if each["path"] == "top.0")
    assert "a layer of 3 x" in reason


def test_layers_inside_an_attention() -> None:
    """They are recognised one by one; the sums over steps leave no room for an activation of the rating."""
    unit = LocalActivationUnit(6, (9, 5)).eval().requires_grad_(False)
    for layer in unit.units:
        layer.activation = nn.PReLU(layer.linear.out_features).requires_grad_(False)  # not what ``kind`` says
    query, keys, lengths = torch.randn(3, 6), torch.randn(3, 4, 6), torch.tensor([4, 0, 2])
    fused = FusedAttention(unit, "fp32", 1)(query, keys, lengths, None)
    torch.testing.assert_close(fused, unit(query, keys, lengths, None), rtol=0, atol=1e-5)
    unit.score.activation = nn.ReLU()
    with pytest.raises(LoweringError, match="last layer has an activation"):
        FusedAttention(unit, "fp32", 1)
