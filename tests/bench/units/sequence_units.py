"""Attention and recurrence of DIN and DIEN: a history per sample, every step of it real."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from optimizations.fusion.torch_sequence import FusedAttention, FusedAugru, FusedGru
from tests.bench.units.default_sizes import block, sizes
from tests.bench.units.dense_units import away_from_first_values
from tests.bench.units.unit import Unit
from tests.bench.units.work import attention_work, recurrent_work
from zoo.layers.attention import ActivationUnit, LocalActivationUnit, SoftmaxAttention
from zoo.layers.augru import Augru, Gru

STEPS = (50, 100)
DTYPES = ("fp32", "bf16")
WANTED_SHARE = 0.40


def attention_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """The rating network over all pairs of a candidate and a step; in the framework on [q, k, q - k, q * k]."""
    for model in ("din", "dien"):
        found = sizes(block(model, "attention"))
        width, source = found["width"], found.get("query")
        hidden = tuple(size for name, size in found.items() if name.startswith("units"))
        reference = _attention(width, source, hidden)
        query = torch.randn(samples, source or width)
        for steps in STEPS:
            keys, lengths = torch.rand(samples, steps, width) * 2 - 1, torch.full((samples,), steps)
            for dtype in DTYPES:
                yield Unit(
                    name=f"attention, {model.upper()}, {steps} steps x {width}",
                    origin="A12",
                    dtype=dtype,
                    work=attention_work(samples, steps, width, hidden, dtype, source),
                    inputs=lambda keys=keys, lengths=lengths, query=query: (query, keys, lengths, None),
                    unfused=reference,
                    fuse=_fused(FusedAttention, reference, dtype),
                )


def recurrent_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """DIEN's GRU and AUGRU, as many distinct users as samples."""
    for kind in ("gru", "augru"):
        found = sizes(block("dien", kind))
        inputs, hidden = found["inputs"], found["hidden"]
        reference = (Gru if kind == "gru" else Augru)(inputs, hidden).eval().requires_grad_(False)
        for steps in STEPS:
            arguments = _sequences(samples, steps, inputs, attended=kind == "augru")
            for dtype in DTYPES:
                yield Unit(
                    name=f"{kind.upper()}, DIEN, {steps} steps, {inputs} -> {hidden}",
                    origin="A3",
                    dtype=dtype,
                    work=recurrent_work(samples, steps, inputs, hidden, dtype, all_states=kind == "gru"),
                    inputs=lambda arguments=arguments: arguments,
                    unfused=reference,
                    fuse=_fused(FusedGru if kind == "gru" else FusedAugru, reference, dtype),
                    wanted_share=WANTED_SHARE if dtype == "fp32" else None,
                )


def _attention(width: int, source: int | None, hidden: tuple[int, ...]) -> ActivationUnit:
    made = LocalActivationUnit(width, hidden) if source is None else SoftmaxAttention(source, width, hidden)
    return away_from_first_values(made)


def _sequences(samples: int, steps: int, inputs: int, attended: bool) -> tuple[Tensor | None, ...]:
    x, lengths = torch.rand(samples, steps, inputs) * 2 - 1, torch.full((samples,), steps)
    return (x, torch.rand(samples, steps), lengths, None) if attended else (x, lengths)


def _fused(kind: Callable[..., nn.Module], reference: nn.Module, dtype: str) -> Callable[[], nn.Module]:
    return lambda: kind(reference, dtype, 1)
