"""embedding_tier: tables stay in their file on disk, and only their most frequent rows in memory of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from optimizations.contract import Optimization, Phase, Pipeline, PlanError
from zoo.blueprint import Block, HotOrder

ORDERS: tuple[str, ...] = get_args(HotOrder)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTierOptions:
    """hot_mb: megabytes (2**20 bytes) of rows that lie in memory, those that training looked up most often first.

    order: "row", as in their table, found by an index of two bits per row of it; "frequency", the most frequent ones
    first, found by one of four bytes.
    """

    hot_mb: float = 64.0
    order: HotOrder = "row"

    def __post_init__(self) -> None:
        """Raises ValueError for a memory of no size and for an unknown order."""
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if not self.hot_mb > 0:
            raise ValueError(f"hot_mb={self.hot_mb} must be above 0 megabytes")


def _chosen(pipeline: Pipeline) -> tuple[Block, ...]:
    """The wide part is left out: its rows are single floats, as large as the index that would find them."""
    return tuple(block for block in pipeline.blocks if block.role == "embedding" and block.kind != "wide")


def claims(pipeline: Pipeline, options: EmbeddingTierOptions) -> tuple[str, ...]:
    """The slots ``hot_mb`` and ``hot_order`` of the embedding block.

    Raises PlanError for tables that another plug-in copies to memory.
    """
    for block in _chosen(pipeline):
        if block.dtype != "fp32":
            raise PlanError(
                f"opt: 'embedding_tier' leaves the tables in their file, which is in fp32, and {block.dtype!r} keeps a "
                f"copy of all of them in memory: say opt.{block.dtype}.embedding=false, or leave one of the two out"
            )
    return tuple(f"{block.path}.{slot}" for block in _chosen(pipeline) for slot in ("hot_mb", "hot_order"))


def apply(pipeline: Pipeline, options: EmbeddingTierOptions) -> Pipeline:
    """Write both slots."""
    for block in _chosen(pipeline):
        pipeline = pipeline.with_block(block.path, hot_mb=float(options.hot_mb), hot_order=options.order)
    return pipeline


SPEC = Optimization(
    name="embedding_tier",
    summary="tables in a mapped file on disk; their most frequent rows sorted together in memory",
    phase=Phase.EXECUTION,
    scope="serve",
    division="closed",
    origin=("A17", "B13"),
    options=EmbeddingTierOptions,
    claims=claims,
    apply=apply,
    requires=("fusion",),
    devices=("cpu",),
)
