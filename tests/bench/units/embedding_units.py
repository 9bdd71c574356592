"""Embedding lookups of all tables in one call, out of tables of the default size and far larger than the caches.

Rows are drawn anew for every call, uniformly: what a call read before helps it nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optimizations.fusion.torch_embedding import FusedEmbedding
from tests.bench.units.default_sizes import TABLE_ROWS
from tests.bench.units.unit import Unit
from tests.bench.units.work import BYTES_OF, FLOAT_BYTES, Work, lookup_work
from zoo.configs import DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.tensors import Features, SideFeatures
from zoo.schema import BagField, IdField, Schema

FIELDS = tuple(f"C{number}" for number in range(1, 27))
"""Criteo's categorical columns, a table each."""
ONE_HOT = Schema(
    name="one_hot", ids=tuple(IdField(name=f, side="item", column=k, table=f, rows=1) for k, f in enumerate(FIELDS))
)
BAGS = Schema(
    name="bags", bags=tuple(BagField(name=f, side="item", column=k, table=f, rows=1) for k, f in enumerate(FIELDS))
)
BAG_LENGTH = 8
CLAIMED = 7.0
WANTED_SHARE = 0.60
MANY_SAMPLES = 1_024
"""Enough for the lookups to outweigh the call from Python, a few tens of microseconds: the rate of the kernel alone."""


def one_hot_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """One id per table: the tables of DLRM and of Wide & Deep at their default sizes."""
    for label, config in (("DLRM", DlrmConfig()), ("WDL", WdlConfig())):
        reference, memory = _tables(config, ONE_HOT, TABLE_ROWS)
        widths = [table.weight.shape[1] for table in reference.tables.values()]
        for dtype in ("fp32", "bf16"):
            yield Unit(
                name=f"one-hot, {label}, 26 x {TABLE_ROWS:,} x {_span(widths)}",
                origin="A9",
                dtype=dtype,
                work=_of_widths(widths, samples, dtype),
                inputs=lambda: (_one_hot_rows(samples, TABLE_ROWS),),
                unfused=reference,
                fuse=_fused(reference, dtype),
                table=memory,
                claimed_ratio=CLAIMED if dtype == "fp32" else None,
            )


def bag_units(samples: int, _table: Tensor) -> Iterator[Unit]:
    """Bags of eight ids per table, summed. The framework gets every bag's ids as a tensor of its own, ready to use."""
    reference, memory = _tables(DlrmConfig(), BAGS, TABLE_ROWS)
    offsets = torch.arange(samples + 1) * BAG_LENGTH
    weights = [table.weight for table in reference.tables.values()]

    def inputs() -> tuple[Features, list[Tensor]]:
        rows = torch.randint(TABLE_ROWS, (samples, len(FIELDS), BAG_LENGTH))
        interleaved = torch.arange(samples * len(FIELDS) + 1) * BAG_LENGTH
        item = SideFeatures(torch.zeros(samples, 0), rows[:, :0, 0], rows.flatten(), interleaved)
        return _features(item), [rows[:, k].flatten() for k in range(len(FIELDS))]

    def unfused(_features: Features, columns: list[Tensor]) -> Tensor:
        pairs = zip(columns, weights, strict=True)
        return torch.cat([F.embedding_bag(c, w, offsets, mode="sum", include_last_offset=True) for c, w in pairs], 1)

    def item_side(dtype: str) -> Callable[[], Callable[..., Any]]:
        def fuse() -> Callable[..., Any]:
            module = FusedEmbedding(reference, dtype == "bf16", 1)
            return lambda features, _columns: module(features).item

        return fuse

    for dtype in ("fp32", "bf16"):
        yield Unit(
            name=f"bags of {BAG_LENGTH}, DLRM, 26 x {TABLE_ROWS:,} x 16",
            origin="A9",
            dtype=dtype,
            work=lookup_work(samples * len(FIELDS) * BAG_LENGTH, 16, dtype),
            inputs=inputs,
            unfused=unfused,
            fuse=item_side(dtype),
            table=memory,
            claimed_ratio=CLAIMED if dtype == "fp32" else None,
        )


def big_table_units(samples: int, table: Tensor) -> Iterator[Unit]:
    """One id per table out of ``table``: rows of 64 bytes (DLRM) and of 72 bytes (DIN, DIEN), or half of it in bf16.

    For a query, and for so many samples that only the kernel counts.
    """
    for config, dtypes in ((DlrmConfig(), ("fp32", "bf16")), (DinConfig(), ("fp32",))):
        width = config.embedding_dim
        rows = table.numel() // (len(FIELDS) * width)
        reference, _ = _tables(config, ONE_HOT, rows, table)
        for dtype, count in (*((dtype, samples) for dtype in dtypes), ("fp32", MANY_SAMPLES)):
            yield Unit(
                name=f"big tables, 26 x {rows:,} x {width * BYTES_OF[dtype]} B, {count:,} samples",
                origin="A9, A17",
                dtype=dtype,
                work=lookup_work(count * len(FIELDS), width, dtype),
                inputs=lambda rows=rows, count=count: (_one_hot_rows(count, rows),),
                unfused=reference,
                fuse=_fused(reference, dtype),
                table=table,
                wanted_share=WANTED_SHARE if dtype == "fp32" else None,
            )


def big_tables(config: ModelConfig, rows: int, memory: Tensor) -> EmbeddingTables:
    """The reference with tables of ``rows`` rows for the one-hot fields, in ``memory``."""
    return _tables(config, ONE_HOT, rows, memory)[0]


def _fused(reference: EmbeddingTables, dtype: str) -> Callable[[], nn.Module]:
    return lambda: FusedEmbedding(reference, dtype == "bf16", 1)


def _one_hot_rows(samples: int, rows: int) -> Features:
    return one_hot_features(torch.randint(rows, (samples, len(FIELDS))))


def one_hot_features(rows: Tensor) -> Features:
    """Lookups of ``rows`` [samples, fields]."""
    none = torch.zeros(0, dtype=torch.int64)
    return _features(SideFeatures(torch.zeros(len(rows), 0), rows, none, none))


def _features(item: SideFeatures) -> Features:
    """Only an item side, already expanded: as many users, without a column, as samples."""
    samples = len(item.dense)
    nothing = torch.zeros(samples, 0, dtype=torch.int64)
    user = SideFeatures(torch.zeros(samples, 0), nothing, nothing[0], nothing[0])
    return Features(user, item, nothing.view(samples, 1, 0), torch.zeros(samples).long(), nothing, None)


def _tables(
    config: ModelConfig, schema: Schema, rows: int, memory: Tensor | None = None
) -> tuple[EmbeddingTables, Tensor]:
    """The reference with tables of ``rows`` rows, side by side in ``memory`` (flat fp32; None: new).

    ``schema`` has tables of one row: to draw the initial values of large ones would take longer than all measuring.
    """
    reference = EmbeddingTables(config, schema).requires_grad_(False).eval()
    widths = [table.weight.shape[1] for table in reference.tables.values()]
    if memory is None:
        memory = torch.randn(rows * sum(widths))
    parts = memory[: rows * sum(widths)].split([rows * width for width in widths])
    for table, part, width in zip(reference.tables.values(), parts, widths, strict=True):
        table.weight = nn.Parameter(part.view(rows, width), requires_grad=False)
    return reference, memory


def _span(widths: list[int]) -> str:
    return "/".join(str(width) for width in sorted(set(widths)))


def _of_widths(widths: list[int], samples: int, dtype: str) -> Work:
    """Tables of different widths are held against rows of their mean width."""
    mean = sum(widths) // len(widths)
    row = max(FLOAT_BYTES, mean * BYTES_OF[dtype] // FLOAT_BYTES * FLOAT_BYTES)
    return Work(random_bytes=samples * sum(widths) * BYTES_OF[dtype], row_bytes=row)
