"""The order of the rows of tables' gradients against NumPy's stable sort."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizations.fusion.row_order import row_order

LISTS = st.lists(st.tuples(st.integers(1, 10**7), st.lists(st.integers(0, 10**8), max_size=50)), max_size=4)


@settings(max_examples=60)
@given(LISTS, st.integers(1, 3), st.integers(1, 4))
def test_places_come_by_rising_row_and_keep_their_order(
    lists: list[tuple[int, list[int]]], stride: int, pieces: int
) -> None:
    sizes = tuple(size for size, _ in lists)
    rows = [np.array([each % size for each in own], np.int64) for size, own in lists]
    whole = [torch.from_numpy(np.repeat(own, stride))[::stride] for own in rows]
    found = row_order(tuple(tuple(own.tensor_split(pieces)) for own in whole), sizes)
    order, starts = found.order.numpy(), found.starts.numpy()
    for k, own in enumerate(rows):
        place = sum(map(len, rows[:k]))
        expected = np.argsort(own, kind="stable")
        np.testing.assert_array_equal(order[place : place + len(own)], expected)
        firsts = np.flatnonzero(np.diff(own[expected], prepend=-1))
        np.testing.assert_array_equal(starts[place + k : place + k + found.groups[k] + 1], [*firsts, len(own)])
        assert found.groups[k] == len(set(own.tolist()))
