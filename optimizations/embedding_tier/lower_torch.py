"""embedding_tier on PyTorch: fusion's lookup kernel, on tables that lie in their file and hot rows that do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from optimizations.embedding_tier.hot_rows import MEGABYTE, chosen_rows, gathered, is_hot, read_at_random
from optimizations.fusion.torch_embedding import FusedEmbedding, HotTable
from optimizations.lowering import LoweringContext, LoweringError
from zoo.blueprint import Block
from zoo.frequencies import rows_looked_up


class TieredEmbedding(FusedEmbedding):
    """``built``: rows and bytes that are hot, of their index and of the tables, and the share of the calibration
    batch's lookups that find a hot row."""

    built: Mapping[str, float]


def _embedding(reference: nn.Module, block: Block, context: LoweringContext) -> nn.Module:
    if context.frequencies is None:
        raise LoweringError("nobody has counted how often the training split looks each row up")
    tables = {name: context.weights[f"{block.path}.tables.{name}.weight"] for name in reference.tables}
    if any(table.flags.writeable for table in tables.values()):
        raise LoweringError(
            "the weights were read into memory, not mapped: serve the file that training wrote, or write yours by "
            "zoo.checkpoint.save_weights"
        )
    row_bytes = {name: table.shape[1] * table.itemsize for name, table in tables.items()}
    chosen = chosen_rows(context.frequencies, row_bytes, int(block.hot_mb * MEGABYTE))
    hot = gathered(tables, chosen, block.hot_order)
    for table in tables.values():
        read_at_random(table)
    module = TieredEmbedding(reference, False, context.threads, hot)
    module.built = {
        "hot_rows": sum(len(one.rows) for one in hot.values()),
        "hot_bytes": sum(one.rows.nbytes for one in hot.values()),
        "index_bytes": sum(one.index.nbytes for one in hot.values()),
        "table_bytes": sum(table.nbytes for table in tables.values()),
        **_share(hot, context),
    }
    return module


def _share(hot: Mapping[str, HotTable], context: LoweringContext) -> dict[str, float]:
    if context.calibration is None:
        return {}
    looked_up = rows_looked_up(context.schema, context.calibration)
    found = [is_hot(hot[table], rows) for table, rows in looked_up.items() if table in hot]
    return {"hot_share_of_calibration": float(np.concatenate([np.zeros(0, bool), *found]).mean())}


BUILDERS: dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]] = {
    ("embedding.hot", "fused", "fp32"): _embedding,
}
