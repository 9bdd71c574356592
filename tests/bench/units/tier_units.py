"""Frequent rows of large tables in memory of their own, against the same kernel on the tables as they lie.

Ids of every table follow Zipf-Mandelbrot, 1 / (k + q) for the k-th most frequent one, and lie anywhere in it, as
hashing leaves them. An index tells where a row lies now: one more access at random.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from optimizations.embedding_tier.hot_rows import gathered
from optimizations.fusion.torch_embedding import FusedEmbedding, HotTable
from tests.bench.units.embedding_units import FIELDS, MANY_SAMPLES, big_tables, one_hot_features
from tests.bench.units.unit import Unit
from tests.bench.units.work import lookup_work
from zoo.blueprint import HotOrder
from zoo.configs import DlrmConfig
from zoo.layers.tensors import Features
from zoo.schema import Int64

OFFSET_SHARE = 0.003
"""q over the rows of a table."""
HOT_SHARE = 1 / 24
"""Rows that are hot: 64 MB of 1.5 GB."""


def tier_units(samples: int, table: Tensor) -> Iterator[Unit]:
    """Some rows in either order, on huge pages and on small ones; all rows by frequency, found by an index, and by ids
    that were renumbered beforehand: what sorting alone can gain."""
    width = DlrmConfig().embedding_dim
    rows = table.numel() // (len(FIELDS) * width)
    reference = big_tables(DlrmConfig(), rows, table)
    tables = {name: one.weight.numpy() for name, one in reference.tables.items()}
    places = torch.randperm(rows)
    first = places[: max(1, int(rows * HOT_SHARE))].numpy()

    plain = functools.cache(lambda: FusedEmbedding(reference, False, 1))

    def hot(ranks: Int64, order: HotOrder, huge_pages: bool = False) -> Callable[[], dict[str, HotTable]]:
        return lambda: gathered(tables, dict.fromkeys(tables, ranks), order, huge_pages)

    def indexed(found: Callable[[], dict[str, HotTable]]) -> Callable[[], Callable[..., Any]]:
        module = functools.cache(lambda: FusedEmbedding(reference, False, 1, found()))  # once for all sample counts
        return lambda: lambda scattered, _ranked: module()(scattered)

    all_sorted = functools.cache(hot(places.numpy(), "frequency"))

    def renumbered() -> Callable[..., Any]:
        other = big_tables(DlrmConfig(), rows, table)
        for name, one in other.tables.items():
            one.weight = nn.Parameter(torch.from_numpy(all_sorted()[name].rows), requires_grad=False)
        module = FusedEmbedding(other, False, 1)
        return lambda _scattered, ranked: module(ranked)

    forms: dict[str, Callable[[], Callable[..., Any]]] = {
        "hot, by row, huge pages": indexed(hot(first, "row", huge_pages=True)),
        "hot, by row": indexed(hot(first, "row")),
        "hot, by frequency, huge pages": indexed(hot(first, "frequency", huge_pages=True)),
        "hot, by frequency": indexed(hot(first, "frequency")),
        "all rows by frequency": indexed(all_sorted),
        "all rows by frequency, ids renumbered": renumbered,
    }

    def inputs(count: int) -> tuple[Features, Features]:
        ranks = frequent_ranks(count, rows)
        return one_hot_features(places[ranks]), one_hot_features(ranks)

    for name, fuse in forms.items():
        for count in dict.fromkeys((samples, MANY_SAMPLES)):
            yield Unit(
                name=f"{name}, {count:,} samples",
                origin="A17, B13",
                dtype="fp32",
                work=lookup_work(count * len(FIELDS), width, "fp32"),
                inputs=functools.partial(inputs, count),
                unfused=lambda scattered, _ranked: plain()(scattered),
                fuse=fuse,
                table=table,
            )


def frequent_ranks(samples: int, rows: int) -> Tensor:
    """Ranks [samples, fields], 0 the most frequent: the law's distribution function, taken for continuous, inverted."""
    offset = max(1.0, OFFSET_SHARE * rows)
    drawn = torch.rand(samples, len(FIELDS), dtype=torch.float64)
    return (offset * ((offset + rows) / offset) ** drawn - offset).long().clamp(0, rows - 1)
