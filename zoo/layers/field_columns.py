"""Feature engineering of one column, field by field: for graph compilers, which join it themselves.

``zoo.layers.features`` treats all columns of a kind at once and gives the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.layers.features import hash_ids, outside_table
from zoo.schema import MISSING_ID, BagField, DenseField, HistoryField, IdField

TableField = IdField | BagField | HistoryField


def normalised(x: Tensor, field: DenseField) -> Tensor:
    """``(t(x) - mean) / std`` of one dense column [R]; NaN gives 0."""
    if field.transform == "log":
        x = torch.sign(x) * torch.log1p(torch.abs(x))
    scaled = (x - field.mean) / field.std
    return torch.where(torch.isnan(scaled), 0.0, scaled)


def check_ids(raw: Tensor, field: TableField) -> None:
    """Raises IndexError for a raw id outside the table of a field that is not hashed."""
    if field.hashed or not raw.numel():
        return
    low, high = (int(bound) for bound in torch.aminmax(raw))
    if low < MISSING_ID or high >= field.rows:
        raise outside_table(field, low if low < MISSING_ID else high)


def table_rows(raw: Tensor, field: TableField) -> Tensor:
    """Table rows of raw ids (any shape); those of a field that is not hashed have to lie in its table."""
    return hash_ids(raw, field.rows) if field.hashed else torch.where(raw == MISSING_ID, 0, raw)
