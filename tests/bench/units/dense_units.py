"""Features, fully connected layers and the dot interaction, at the sizes of the default models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from optimizations.fusion.torch_dense import FusedFullyConnected, FusedInteraction
from optimizations.fusion.torch_features import FusedFeatures
from optimizations.int8.quantization import quantized
from tests.bench.units.default_sizes import block, planted, query, sizes
from tests.bench.units.unit import Unit
from tests.bench.units.work import Work, fc_work, interaction_work
from zoo.layers.features import FeatureTransform, expand
from zoo.layers.interaction import DotInteraction
from zoo.layers.mlp import FullyConnected
from zoo.schema import Schema

LAYERS = (("wdl", "deep.0"), ("dlrm", "bottom.1"), ("din", "top.0"))
"""The largest layer there is, a middling one, and one with the costliest activation."""
CLAIMED_FEATURES = 2.0


def feature_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """Hash, bucketise, normalise, fill, concatenate, and the copy of the user's columns per candidate on the way."""
    for shape in ("pointwise", "sequence"):
        schema, raw = planted(shape).schema, query(shape, samples)
        reference = FeatureTransform(schema)
        moved = _bytes(raw) + _bytes(reference(expand(raw)))
        yield Unit(
            name=f"features, planted, {shape}",
            origin="A10",
            dtype="fp32",
            work=Work(sequential_bytes=moved),
            inputs=lambda raw=raw: (raw,),
            unfused=lambda raw, reference=reference: reference(expand(raw)),
            fuse=_fused_features(schema),
            claimed_ratio=CLAIMED_FEATURES,
        )


def fc_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """Product, bias and activation in one call; in the framework ``linear``, then the activation."""
    for model, path in LAYERS:
        found = block(model, path)
        inputs, outputs = (sizes(found)[name] for name in ("inputs", "outputs"))
        layer = away_from_first_values(FullyConnected(inputs, outputs, found.kind))
        x = torch.randn(samples, inputs)
        for dtype in ("fp32", "bf16", "int8"):
            yield Unit(
                name=f"fc, {model.upper()} {path}, {inputs} -> {outputs} {found.kind}",
                origin="A23" if dtype == "int8" else "A11",
                dtype=dtype,
                work=fc_work(samples, inputs, outputs, dtype),
                inputs=lambda x=x: (x,),
                unfused=layer,
                fuse=_fused_layer(layer, dtype, x),
            )


def interaction_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """DLRM's dot products: A read once and only its triangle; in the framework ``bmm``, then a selection."""
    found = sizes(block("dlrm", "interaction"))
    reference = DotInteraction(found["vectors"])
    vectors = torch.randn(samples, found["vectors"], found["width"])
    yield Unit(
        name=f"interaction, DLRM, {found['vectors']} x {found['width']}",
        origin="A15",
        dtype="fp32",
        work=interaction_work(samples, found["vectors"], found["width"]),
        inputs=lambda: (vectors,),
        unfused=reference,
        fuse=lambda: FusedInteraction(reference, "fp32", 1),
    )


def away_from_first_values(module: nn.Module) -> nn.Module:
    """Biases, slopes and moving averages as after some training; evaluation mode, frozen."""
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.3, 1.5)
        elif name.endswith(("running_mean", "alpha", "bias")):
            value.normal_(std=0.3)
    return module.eval().requires_grad_(False)


def _fused_features(schema: Schema) -> Callable[[], nn.Module]:
    def fuse() -> nn.Module:
        fused = FusedFeatures(schema)
        fused.expand_first = True
        return fused

    return fuse


def _fused_layer(layer: FullyConnected, dtype: str, x: Tensor) -> Callable[[], nn.Module]:
    def fuse() -> nn.Module:
        integers = quantized(layer.linear.weight, x.abs().amax(0)) if dtype == "int8" else None
        return FusedFullyConnected(layer, dtype, 1, integers)

    return fuse


def _bytes(tensors: Any) -> int:
    """Bytes of all tensors of a nested tuple."""
    if isinstance(tensors, Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(_bytes(part) for part in tensors or ())
