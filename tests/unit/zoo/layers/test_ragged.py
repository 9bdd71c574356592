from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from zoo.layers.ragged import split_bags


@pytest.mark.parametrize(("rows", "bags"), [(5, 3), (4, 1), (1, 2), (3, 0), (0, 2)])
def test_bag_columns_are_taken_apart(rows: int, bags: int) -> None:
    lengths = np.random.default_rng(rows).integers(0, 4, rows * bags)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = 100 + np.arange(offsets[-1])
    got = split_bags(torch.from_numpy(values), torch.from_numpy(offsets), bags)
    assert len(got) == bags
    for bag, (own, own_offsets) in enumerate(got):
        wanted = [values[offsets[row * bags + bag] : offsets[row * bags + bag + 1]].tolist() for row in range(rows)]
        bounds = own_offsets.tolist()
        assert [own[a:b].tolist() for a, b in itertools.pairwise(bounds)] == wanted
        assert bounds[0] == 0 and bounds[-1] == len(own)
