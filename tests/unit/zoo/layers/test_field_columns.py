"""One column alone is treated as it is among all of its kind."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from zoo.layers.features import TableRows, normalise
from zoo.layers.field_columns import check_ids, normalised, table_rows
from zoo.schema import DenseField, IdField

DENSE = [
    DenseField(name="a", side="user", mean=1.5, std=2.0),
    DenseField(name="b", side="user", mean=0.2, std=0.5, transform="log"),
]
IDS = [
    IdField(name="a", side="user", column=0, table="a", rows=7),
    IdField(name="b", side="user", column=1, table="b", rows=9),
]


def test_dense_columns() -> None:
    x = torch.tensor([[0.0, -3.0], [float("nan"), 2.0], [7.5, float("nan")], [-1.0, 1e6]])
    means, stds = (torch.tensor([getattr(field, name) for field in DENSE]) for name in ("mean", "std"))
    together = normalise(x, means, stds, torch.tensor([False, True]))
    alone = torch.stack([normalised(x[:, k], field) for k, field in enumerate(DENSE)], 1)
    assert torch.equal(alone, together)


@pytest.mark.parametrize("hashed", [(True, True), (False, False), (True, False)])
def test_ids(hashed: tuple[bool, bool]) -> None:
    fields = [dataclasses.replace(field, hashed=each) for field, each in zip(IDS, hashed, strict=True)]
    raw = torch.tensor([[0, 8], [-1, -1], [6, 3]])
    alone = torch.stack([table_rows(raw[:, k], field) for k, field in enumerate(fields)], 1)
    assert torch.equal(alone, TableRows(fields)(raw))


@pytest.mark.parametrize("found", [-2, 7])
def test_an_id_outside_its_table_is_named_alike(found: int) -> None:
    field = dataclasses.replace(IDS[0], hashed=False)
    raw = torch.tensor([3, found])
    with pytest.raises(IndexError) as alone:
        check_ids(raw, field)
    with pytest.raises(IndexError) as together:
        TableRows([field])(raw.unsqueeze(1))
    assert str(alone.value) == str(together.value)
    assert str(found) in str(alone.value)
