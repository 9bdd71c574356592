"""dedup: what belongs to the user is computed once per user of a query, not once per sample.

On backends other than PyTorch layers that mix both sides stay whole.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block

BACKENDS = ("torch", "onnxruntime", "openvino", "tensorflow")
SPLITTING = ("torch",)
"""Backends that take layers apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupOptions:
    """The user side always stays at one row per user. split: so does its part of the layers that mix both sides."""

    split: bool = True


def _has_user_side(pipeline: Pipeline) -> bool:
    return any(dict(block.shape).get("user_fields", 0) > 0 for block in pipeline.blocks)


def _splittable(block: Block) -> bool:
    """Whether a block's first layer reads columns of both kinds: with one kind there is nothing to take apart."""
    if block.role == "attention":
        return True
    shared = sum(end - first for first, end in block.user_columns)
    return 0 < shared < dict(block.shape).get("inputs", 0)


def claims(pipeline: Pipeline, options: DedupOptions) -> tuple[str, ...]:
    """``expand``, and ``split`` of the blocks that mix user and sample columns; nothing without a user side."""
    if not _has_user_side(pipeline):
        return ()
    splits = options.split and pipeline.backend in SPLITTING
    mixing = [block.path for block in pipeline.blocks if splits and _splittable(block)]
    return ("expand", *(f"{path}.split" for path in mixing))


def apply(pipeline: Pipeline, options: DedupOptions) -> Pipeline:
    """Write ``expand="late"`` and ``split=True``."""
    for slot in claims(pipeline, options):
        if slot == "expand":
            pipeline = dataclasses.replace(pipeline, expand="late")
        else:
            pipeline = pipeline.with_block(slot.removesuffix(".split"), split=True)
    return pipeline


SPEC = Optimization(
    name="dedup",
    summary="the user side once per user of a query: features, embeddings, histories, its part of first layers",
    phase=Phase.GRAPH,
    scope="serve",
    division="closed",
    origin=("our own",),
    options=DedupOptions,
    claims=claims,
    apply=apply,
    backends=BACKENDS,
    score_tolerance=1e-5,
)
