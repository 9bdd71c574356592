"""Whatever way a layer is written, its graph is recognised; what only looks like a layer is refused, with a reason."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from optimizations.fusion.fc_activations import RecognisedLayer
from optimizations.fusion.fc_module import fully_connected
from optimizations.fusion.fc_recognition import recognise
from optimizations.lowering import LoweringError
from tests.layer_forms import ACTIVATIONS, LINEAR, LOOK_ALIKES, NONE, RELU, Part, Written
from zoo.layers.mlp import ACTIVATIONS as ZOO_ACTIVATIONS
from zoo.layers.mlp import DICE_EPS, FullyConnected

FORMS = [(kind, name) for kind, forms in ACTIVATIONS.items() for name in forms]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def close(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.float(), expected, rtol=1e-6, atol=1e-6)


def expect(found: RecognisedLayer, module: Written, kind: str) -> None:
    """Kind and numbers, of a module whose weights are known."""
    close(found.weight, module.weight.detach())
    close(found.bias, module.bias.detach())
    assert found.kind == ("dice" if kind == "silu" else kind)
    zeros, ones = torch.zeros(len(found.bias)), torch.ones(len(found.bias))
    if kind in ("prelu", "dice"):
        close(found.slope, module.slope.detach())
    if kind == "dice":
        spread = (module.norm.running_var + module.norm.eps).sqrt()
        close(found.scale, 1 / spread)
        close(found.shift, -module.norm.running_mean / spread)
    if kind == "silu":
        for part, expected in ((found.slope, zeros), (found.scale, ones), (found.shift, zeros)):
            close(part, expected)


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("kind", ["none", "relu", "silu"])
def test_products(linear: str, kind: str) -> None:
    module = Written(5, 4, LINEAR[linear], next(iter(ACTIVATIONS[kind].values())))
    expect(recognise(module), module, kind)


@pytest.mark.parametrize(("kind", "name"), FORMS)
def test_activations(kind: str, name: str) -> None:
    module = Written(6, 3, LINEAR["x @ W.T + b"], ACTIVATIONS[kind][name])
    expect(recognise(module), module, kind)


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(sorted(LINEAR)), st.sampled_from(FORMS))
def test_any_sizes(inputs: int, outputs: int, linear: str, form: tuple[str, str]) -> None:
    assume(linear != "sum of terms" or inputs * outputs > 1)  # one number says no number of columns
    kind, name = form
    module = Written(inputs, outputs, LINEAR[linear], ACTIVATIONS[kind][name])
    expect(recognise(module), module, kind)


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alikes(name: str) -> None:
    linear, activation, reason = LOOK_ALIKES[name]
    with pytest.raises(LoweringError, match=reason):
        recognise(Written(5, 5, linear, activation))


def test_two_inputs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x @ torch.ones(3, 2) + y

    with pytest.raises(LoweringError, match="node 'y': a second input"):
        recognise(Two())


def test_signs_move_into_the_weights() -> None:
    """relu(-z) and -2 relu'(z) forms are the kernels' own activation of other weights."""
    mirrored: Part = lambda m, z: torch.relu(-3 * z)  # noqa: E731
    module = Written(4, 3, LINEAR["F.linear"], mirrored)
    found = recognise(module)
    assert found.kind == "relu"
    close(found.weight, -3 * module.weight.detach())
    close(found.bias, -3 * module.bias.detach())


@pytest.mark.parametrize("slope", [0.01, 0.2])
def test_one_slope_for_all_outputs(slope: float) -> None:
    found = recognise(nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(slope)).requires_grad_(False))
    assert found.kind == "prelu"
    close(found.slope, torch.full((3,), slope))


def test_a_steeper_gate() -> None:
    module = Written(4, 3, LINEAR["F.linear"], lambda m, z: z * torch.sigmoid(1.702 * z))
    found = recognise(module)
    assert found.kind == "dice"
    close(found.weight, module.weight.detach())
    close(found.scale, torch.full((3,), 1.702))


def test_a_weight_that_is_computed() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)).requires_grad_(False)
    close(recognise(layer).weight, layer.weight)


def test_what_hooks_change_is_noticed() -> None:
    layer = nn.Linear(4, 3)
    layer.register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(LoweringError, match="do not agree on probe inputs"):
        recognise(layer)


def test_one_sign_per_output() -> None:
    signs = torch.tensor([2.0, -1.0, 0.5])
    module = Written(4, 3, LINEAR["F.linear"], lambda m, z: torch.sigmoid(z * signs))
    found = recognise(module)
    assert found.kind == "sigmoid"
    close(found.weight, signs.unsqueeze(1) * module.weight.detach())
    close(found.bias, signs * module.bias.detach())


def test_without_a_bias() -> None:
    found = recognise(Written(4, 3, lambda m, x: x @ m.stored, RELU["F.relu"]))
    assert found.kind == "relu" and torch.equal(found.bias, torch.zeros(3, dtype=torch.float64))


def test_a_norm_before_and_behind_the_product() -> None:
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
    for norm in (module[0], module[2]):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2.0), norm.weight.data.normal_()
    found = recognise(module)
    x = torch.randn(9, 4)
    expected = module(x).detach()
    assert found.kind == "relu"
    torch.testing.assert_close((x.double() @ found.weight.T + found.bias).relu().float(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ZOO_ACTIVATIONS)
def test_the_zoos_layers_keep_their_bits(kind: str) -> None:
    layer = FullyConnected(70, 33, kind).eval().requires_grad_(False)
    for name, value in layer.state_dict().items():
        value.uniform_(0.2, 1.3) if name.endswith("running_var") else value.normal_(std=0.3)
    found = recognise(layer)
    assert found.kind == kind
    assert torch.equal(found.weight.float(), layer.linear.weight) and torch.equal(found.bias.float(), layer.linear.bias)
    if kind == "prelu":
        assert found.slope is not None and torch.equal(found.slope.float(), layer.activation.weight)
    if kind == "dice":
        scale = torch.rsqrt(layer.activation.running_var.double() + DICE_EPS)
        expected = (layer.activation.alpha, scale.float(), (-layer.activation.running_mean.double() * scale).float())
        for part, bits in zip((found.slope, found.scale, found.shift), expected, strict=True):
            assert part is not None and torch.equal(part.float(), bits)


def test_another_activation_in_a_layer_of_the_zoo() -> None:
    """Its class and ``kind`` say relu; its graph says what it does."""
    layer = FullyConnected(4, 3, "relu").eval().requires_grad_(False)
    layer.activation = nn.Sigmoid()
    assert recognise(layer).kind == "sigmoid"
    assert isinstance(fully_connected(layer).activation, nn.Sigmoid)
    layer.activation = nn.GELU()
    with pytest.raises(LoweringError, match="node 'gelu'"):
        fully_connected(layer)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_zoos_layer_in_its_place(kind: str) -> None:
    module = Written(6, 5, LINEAR["einsum"], next(iter(ACTIVATIONS[kind].values())))
    layer, x = fully_connected(module), torch.randn(11, 6)
    assert type(layer) is FullyConnected
    torch.testing.assert_close(layer(x), module(x), rtol=1e-5, atol=1e-5)
    own = FullyConnected(6, 5, "prelu")
    assert fully_connected(own) is own


def test_the_module_stays_as_it_is() -> None:
    module = Written(4, 3, LINEAR["mm, iadd"], NONE["nothing"]).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    recognise(module)
    assert module.training
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name])
