"""Which rank has which rows: the fixed plan, that of TorchRec's row-wise sharding. No framework.

Rank r of n has the rows [r b, (r + 1) b) of a table of R rows, with b = ceil(R / n): the last ranks may have fewer, or
none. Rows are hashed, so that a block is looked up about as often as any other of its size.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from zoo.schema import BagField, CrossField, HistoryField, IdField, Schema

Field = TypeVar("Field", IdField, BagField, HistoryField, CrossField)


def own_rows(rows: int, rank: int, ranks: int) -> range:
    """The rows of a table of ``rows`` that ``rank`` of ``ranks`` has."""
    block = -(-rows // ranks)
    return range(min(rank * block, rows), min((rank + 1) * block, rows))


def rank_schema(schema: Schema, rank: int, ranks: int) -> Schema:
    """``schema`` with tables as large as the rank's part of them; a rank without a row has one that nobody asks for."""

    def own(field: Field) -> Field:
        return dataclasses.replace(field, rows=max(1, len(own_rows(field.rows, rank, ranks))))

    return dataclasses.replace(
        schema,
        ids=tuple(map(own, schema.ids)),
        bags=tuple(map(own, schema.bags)),
        history=tuple(map(own, schema.history)),
        crosses=tuple(map(own, schema.crosses)),
    )


def table_rows(schema: Schema) -> dict[str, int]:
    """Rows of every table that a model may have, by the name of its parameter."""
    deep = {f"embedding.tables.{name}.weight": rows for name, rows in schema.tables().items()}
    wide = {f"wide.tables.{field.name}.weight": field.rows for field in (*schema.ids, *schema.bags)}
    crosses = {f"wide.crosses.{field.name}.weight": field.rows for field in schema.crosses}
    return {**deep, **wide, **crosses}
