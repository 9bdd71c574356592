"""The native kernels against plain float64 numpy, at odd shapes: lanes left over, empty and full sequences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from optimizations.fusion.torch_dense import FusedFullyConnected, FusedInteraction
from optimizations.fusion.torch_features import FusedFeatures, bucket_thresholds
from optimizations.fusion.torch_sequence import FusedAttention, FusedAugru, FusedGru
from optimizations.int8.quantization import quantized
from optimizations.tf32.lower_torch import rounded
from zoo.layers.attention import LocalActivationUnit, SoftmaxAttention
from zoo.layers.augru import Augru, Gru
from zoo.layers.interaction import DotInteraction
from zoo.layers.mlp import ACTIVATIONS, FullyConnected
from zoo.layers.tensors import RawTensors, SideTensors
from zoo.schema import DenseField, HistoryField, IdField, Schema, hash_rows

Float64 = npt.NDArray[np.float64]
FP32_ULPS = 2e-7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def f64(x: torch.Tensor) -> Float64:
    return x.detach().double().numpy()


def sigmoid(x: Float64) -> Float64:
    return 1 / (1 + np.exp(-x))


def activate(layer: FullyConnected, x: Float64) -> Float64:
    """The activation of ``layer`` by its formula."""
    if layer.kind == "relu":
        return np.maximum(x, 0)
    if layer.kind == "sigmoid":
        return sigmoid(x)
    if layer.kind == "prelu":
        return np.where(x > 0, x, f64(layer.activation.weight) * x)
    if layer.kind == "dice":
        dice = layer.activation
        gate = sigmoid((x - f64(dice.running_mean)) / np.sqrt(f64(dice.running_var) + 1e-8))
        return x * (gate + f64(dice.alpha) * (1 - gate))
    return x


def dense(layer: FullyConnected, x: Float64) -> Float64:
    return activate(layer, x @ f64(layer.linear.weight).T + f64(layer.linear.bias))


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Moving averages, slopes and biases away from their first values; evaluation mode."""
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.3, 1.5)
        elif name.endswith(("running_mean", "alpha", "bias")):
            value.normal_(std=0.3)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        (1, 1, 1),
        (1, 13, 512),
        (2, 3, 17),
        (5, 16, 16),
        (7, 200, 80),
        (13, 64, 65),
        (100, 36, 1),
        (97, 1100, 130),
        (1, 1900, 700),
    ],
)
def test_fully_connected(kind: str, rows: int, inputs: int, outputs: int) -> None:
    layer = randomised(FullyConnected(inputs, outputs, kind))
    x = torch.randn(rows, inputs)
    scale = 1 + np.abs(f64(x)) @ np.abs(f64(layer.linear.weight)).T
    error = np.abs(FusedFullyConnected(layer, "fp32", 2)(x).numpy() - dense(layer, f64(x)))
    assert (error / scale).max() < 4 * FP32_ULPS


@pytest.mark.parametrize(("dtype", "digits"), [("bf16", 8), ("tf32", 11)])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 1, 1), (3, 7, 5), (10, 201, 80), (33, 64, 17), (17, 130, 200), (60, 384, 70), (100, 1025, 33)],
)
def test_rounded_operands(dtype: str, digits: int, rows: int, inputs: int, outputs: int) -> None:
    """The product of the rounded operands, to fp32: nothing but the operands is rounded."""
    layer = randomised(FullyConnected(inputs, outputs, "none"))
    x = torch.randn(rows, inputs)
    short = rounded if dtype == "tf32" else lambda t: t.bfloat16().float()
    weight, operand = f64(short(layer.linear.weight)), f64(short(x))
    assert np.all(np.abs(operand - f64(x)) <= 2.0**-digits * np.abs(f64(x)))
    expected = operand @ weight.T + f64(layer.linear.bias)
    scale = 1 + np.abs(operand) @ np.abs(weight).T
    error = np.abs(FusedFullyConnected(layer, dtype, 1)(x).numpy() - expected)
    assert (error / scale).max() < 4 * FP32_ULPS


@pytest.mark.parametrize("kind", ["none", "relu", "dice"])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 1, 1), (3, 7, 5), (5, 16, 64), (10, 201, 80), (33, 64, 17), (17, 260, 200), (60, 512, 70), (100, 1025, 33)],
)
def test_bytes(rows: int, inputs: int, outputs: int, kind: str) -> None:
    """The product of exactly those integers that the layer stands for, in float64; columns of very different range."""
    layer = randomised(FullyConnected(inputs, outputs, kind))
    x = torch.randn(rows, inputs) * torch.logspace(-2, 2, inputs)
    weight = quantized(layer.linear.weight.detach(), x.abs().amax(0))
    scaled = (x * weight.inverse).numpy()
    low, width = scaled.min(1, keepdims=True), np.ptp(scaled, axis=1, keepdims=True)
    step = f64(torch.from_numpy(width)) / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        integers = np.where(width > 0, np.floor((scaled - low) * (np.float32(255) / width) + np.float32(0.5)), 0)
    operand = integers * step + low
    column = f64(weight.integers) * f64(weight.scale)[:, None]
    out = FusedFullyConnected(layer, "int8", 2, weight)(x).numpy()
    expected = operand @ column.T + f64(layer.linear.bias)
    # A compiler may fuse the scaling: an input halfway between two steps may then fall to the other one.
    slack = step * np.abs(column).max(1) + 4 * FP32_ULPS * (1 + np.abs(operand) @ np.abs(column).T)
    steepest = {"none": 1.0, "relu": 1.0, "dice": 4.0}[kind]
    assert np.all(np.abs(out - activate(layer, expected)) <= steepest * slack)
    # Beside the layer in fp32 all of it is rounding: half a step of an input, half a step of a weight.
    exact = f64(x) @ f64(layer.linear.weight).T + f64(layer.linear.bias)
    of_inputs = step / 2 * np.abs(column).sum(1)
    of_weights = np.abs(operand).sum(1, keepdims=True) * f64(weight.scale) / 2
    assert np.all(np.abs(expected - exact) <= 1.01 * (of_inputs + of_weights) + 1e-5)


def test_a_row_of_equal_inputs_has_no_range() -> None:
    layer = randomised(FullyConnected(5, 3, "none"))
    weight = quantized(layer.linear.weight.detach(), torch.zeros(5))
    x = torch.full((2, 5), 0.75)
    expected = f64(x) @ (f64(weight.integers) * f64(weight.scale)[:, None]).T + f64(layer.linear.bias)
    np.testing.assert_allclose(FusedFullyConnected(layer, "int8", 1, weight)(x), expected, rtol=1e-5, atol=1e-6)


def test_sigmoid_within_the_bounds_of_its_header() -> None:
    """A single fully connected unit with weight 1 is the function itself."""
    layer = FullyConnected(1, 1, "sigmoid").requires_grad_(False)
    layer.linear.weight.fill_(1.0)
    x = torch.linspace(-70, 70, 20_001).unsqueeze(1)
    expected = sigmoid(f64(x))
    error = np.abs(FusedFullyConnected(layer, "fp32", 1)(x).numpy() - expected)
    assert error.max() < 1.2e-7
    assert (error / expected)[np.abs(f64(x)) < 8].max() < 1e-6
    assert (error / expected).max() < 1e-5


def test_nan_stays_nan_and_infinity_saturates() -> None:
    layer = FullyConnected(1, 1, "sigmoid").requires_grad_(False)
    layer.linear.weight.fill_(1.0)
    x = torch.tensor([[float("nan")], [float("inf")], [float("-inf")]])
    scores = FusedFullyConnected(layer, "fp32", 1)(x).numpy().ravel()
    assert np.isnan(scores[0]) and scores[1] == 1.0 and 0 <= scores[2] < 1e-30


@pytest.mark.parametrize(
    ("samples", "vectors", "width"), [(1, 2, 1), (3, 5, 6), (2, 16, 16), (7, 27, 16), (2, 70, 9), (3, 17, 33)]
)
def test_interaction(samples: int, vectors: int, width: int) -> None:
    x = torch.randn(samples, vectors, width)
    rows, columns = np.tril_indices(vectors, -1)
    expected = np.einsum("nik,njk->nij", f64(x), f64(x))[:, rows, columns]
    out = FusedInteraction(DotInteraction(vectors), "fp32", 2)(x).numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=width * 1e-6)


def gru_step(cell: Gru | Augru, x: Float64, h: Float64) -> tuple[Float64, Float64]:
    """(update gate, candidate) of one sequence."""
    gx = f64(cell.weight_ih) @ x + f64(cell.bias_ih)
    gh = f64(cell.weight_hh) @ h + f64(cell.bias_hh)
    (rx, zx, cx), (rh, zh, ch) = np.split(gx, 3), np.split(gh, 3)
    return sigmoid(zx + zh), np.tanh(cx + sigmoid(rx + rh) * ch)


LENGTHS = [
    pytest.param([0], 1, id="one empty history"),
    pytest.param([1], 1, id="one step"),
    pytest.param([0, 0, 0], 4, id="all empty"),
    pytest.param([3, 0, 5, 5, 1, 2, 4, 5, 0, 3, 3, 2, 1, 4, 5, 5, 2], 5, id="ragged"),
    pytest.param([200, 17, 0], 200, id="two hundred"),
]


@pytest.mark.parametrize(("inputs", "hidden"), [(36, 36), (5, 7), (1, 1), (9, 16), (18, 40)])
@pytest.mark.parametrize(("lengths", "steps"), LENGTHS)
def test_gru(inputs: int, hidden: int, lengths: list[int], steps: int) -> None:
    cell = Gru(inputs, hidden).requires_grad_(False)
    x = torch.randn(len(lengths), steps, inputs)
    expected = np.zeros((len(lengths), steps, hidden))
    for u, length in enumerate(lengths):
        h = np.zeros(hidden)
        for t in range(length):
            update, candidate = gru_step(cell, f64(x[u, t]), h)
            expected[u, t] = h = (1 - update) * candidate + update * h
    states = FusedGru(cell, "fp32", 2)(x, torch.tensor(lengths)).numpy()
    np.testing.assert_allclose(states, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("inputs", "hidden"), [(36, 36), (5, 7), (1, 1)])
@pytest.mark.parametrize(("lengths", "steps"), LENGTHS)
def test_augru(inputs: int, hidden: int, lengths: list[int], steps: int, shared: bool) -> None:
    cell = Augru(inputs, hidden).requires_grad_(False)
    x = torch.randn(len(lengths), steps, inputs)
    user_of = np.arange(4 * len(lengths))[::-1] // 4 if shared else np.arange(len(lengths))
    scores = torch.rand(len(user_of), steps)
    expected = np.zeros((len(user_of), hidden))
    for n, u in enumerate(user_of):
        for t in range(lengths[u]):
            update, candidate = gru_step(cell, f64(x[u, t]), expected[n])
            update = float(scores[n, t]) * update
            expected[n] = (1 - update) * expected[n] + update * candidate
    index = torch.from_numpy(user_of.copy()) if shared else None
    out = FusedAugru(cell, "fp32", 2)(x, scores, torch.tensor(lengths), index).numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


def ratings(unit: LocalActivationUnit | SoftmaxAttention, query: Float64, keys: Float64) -> Float64:
    """Ratings [T] of the keys [T, w] of one user for one candidate, by the unsplit first layer."""
    q = np.broadcast_to(query, keys.shape)
    x = np.concatenate([q, keys, q - keys, q * keys], 1)
    for layer in (*unit.units, unit.score):
        x = dense(layer, x)
    return x[:, 0]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("width", "units"), [(36, (80, 40)), (5, (7,)), (1, (1, 1)), (18, (33, 17, 5))])
@pytest.mark.parametrize(("lengths", "steps"), LENGTHS)
def test_local_activation_unit(
    width: int, units: tuple[int, ...], lengths: list[int], steps: int, shared: bool
) -> None:
    unit = randomised(LocalActivationUnit(width, units))
    keys = torch.randn(len(lengths), steps, width)
    user_of = np.arange(4 * len(lengths))[::-1] // 4 if shared else np.arange(len(lengths))
    query = torch.randn(len(user_of), width)
    expected = np.zeros((len(user_of), width))
    for n, u in enumerate(user_of):
        real = f64(keys[u, : lengths[u]])
        expected[n] = ratings(unit, f64(query[n]), real) @ real
    index = torch.from_numpy(user_of.copy()) if shared else None
    out = FusedAttention(unit, "fp32", 2)(query, keys, torch.tensor(lengths), index).numpy()
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("query_width", "width", "units"), [(36, 36, (80, 40)), (7, 5, (9,)), (1, 1, (1, 1))])
@pytest.mark.parametrize(("lengths", "steps"), LENGTHS)
def test_softmax_attention(
    query_width: int, width: int, units: tuple[int, ...], lengths: list[int], steps: int, shared: bool
) -> None:
    unit = randomised(SoftmaxAttention(query_width, width, units))
    keys = torch.randn(len(lengths), steps, width)
    user_of = np.arange(4 * len(lengths))[::-1] // 4 if shared else np.arange(len(lengths))
    query = torch.randn(len(user_of), query_width)
    expected = np.zeros((len(user_of), steps))
    for n, u in enumerate(user_of):
        if lengths[u]:
            rated = np.exp(ratings(unit, dense(unit.query, f64(query[n])), f64(keys[u, : lengths[u]])))
            expected[n, : lengths[u]] = rated / rated.sum()
    index = torch.from_numpy(user_of.copy()) if shared else None
    out = FusedAttention(unit, "fp32", 2)(query, keys, torch.tensor(lengths), index).numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


def raw_tensors(
    dense: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], history: npt.NDArray[np.int64]
) -> RawTensors:
    """All columns on the item side, one user with ``history``."""
    none = torch.zeros(0, dtype=torch.int64)
    item = SideTensors(torch.from_numpy(dense), torch.from_numpy(ids), none, torch.zeros(1, dtype=torch.int64))
    user = SideTensors(
        torch.zeros(1, 0), torch.zeros((1, 0), dtype=torch.int64), none, torch.zeros(1, dtype=torch.int64)
    )
    offsets = torch.tensor([0, len(history)])
    return RawTensors(user, item, torch.from_numpy(history), offsets, torch.zeros(len(dense), dtype=torch.int64))


@pytest.mark.parametrize("rows", [2, 3, 1000, 2**31 - 1, 2**40])
def test_hashing_gives_the_rows_of_the_schema(rows: int) -> None:
    schema = Schema(
        name="s",
        ids=tuple(IdField(name=f"C{k}", side="item", column=k, table=f"C{k}", rows=rows) for k in range(3)),
        history=(HistoryField(name="h", target="C0", table="C0", rows=rows),),
    )
    rng = np.random.default_rng(1)
    ids = rng.integers(-(2**63), 2**63 - 1, (500, 3))
    ids[::7, 0], ids[0, 1], ids[1, 1], ids[2, 1] = -1, -(2**63), 2**63 - 1, 0
    features = FusedFeatures(schema)(raw_tensors(np.zeros((500, 0), np.float32), ids, ids[:321, :1].copy()))
    np.testing.assert_array_equal(features.item.rows.numpy(), hash_rows(ids, rows))
    np.testing.assert_array_equal(features.history.numpy()[0], hash_rows(ids[:321, :1], rows))


def test_buckets_and_normalising() -> None:
    schema = Schema(
        name="s",
        dense=(
            DenseField(name="plain", side="item", mean=0.5, std=2.0),
            DenseField(name="logged", side="item", transform="log", mean=1.0, std=0.5),
        ),
        ids=tuple(
            IdField(name=f"b{rows}", side="item", column=1, table=f"b{rows}", rows=rows, source="bucket")
            for rows in (4, 9, 300)
        ),
    )
    rng = np.random.default_rng(2)
    x = np.concatenate([10 ** rng.uniform(-6, 9, 400), -rng.exponential(3, 50), np.arange(60), [np.nan, 0, np.inf]])
    edges = np.concatenate([bucket_thresholds(300)[:40], np.nextafter(bucket_thresholds(300)[:40], np.float32(0))])
    x = np.concatenate([x, edges]).astype(np.float32)
    columns = np.stack([x, x], 1)
    none = np.zeros((len(x), 0), np.int64)
    features = FusedFeatures(schema)(raw_tensors(columns, none, np.zeros((0, 0), np.int64)))
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        bucket = 3 + np.floor(np.log(1 + wide) ** 2)
        logged = np.sign(wide) * np.log1p(np.abs(wide))
    for k, rows in enumerate((4, 9, 300)):
        expected = np.select([np.isnan(wide), wide == 0, wide < 0], [0, 1, 2], bucket).clip(max=rows - 1)
        np.testing.assert_array_equal(features.item.rows.numpy()[:, k], expected)
    finite = np.isfinite(wide)
    out = features.item.dense.numpy()
    np.testing.assert_allclose(out[finite, 0], (wide[finite] - 0.5) / 2.0, rtol=1e-6)
    np.testing.assert_allclose(out[finite, 1], (logged[finite] - 1.0) / 0.5, rtol=1e-6, atol=1e-6)
    assert out[np.isnan(wide)].tolist() == [[0.0, 0.0]]
