"""The order of the rows of tables' gradients against NumPy's stable sort."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizations.fusion.row_order import row_order
from optimizations.fusion.row_pieces import bag_entries

LISTS = st.lists(st.tuples(st.integers(1, 10**7), st.lists(st.integers(0, 10**8), max_size=50)), max_size=4)


@settings(max_examples=60)
@given(LISTS, st.integers(1, 3), st.integers(1, 4))
def test_places_come_by_rising_row_and_keep_their_order(
    lists: list[tuple[int, list[int]]], stride: int, pieces: int
) -> None:
    sizes = tuple(size for size, _ in lists)
    rows = [np.array([each % size for each in own], np.int64) for size, own in lists]
    # Each piece lies in a matrix of its own, as one of its columns; of a single column it is a list.
    parts = [torch.from_numpy(own).tensor_split(pieces) for own in rows]
    each = (part for own in parts for part in own)
    spread = [part if stride == 1 else torch.stack([part - 1] * (stride - 1) + [part], 1) for part in each]
    lists = tuple(tuple((pieces * k + number, stride - 1) for number in range(pieces)) for k in range(len(rows)))
    found = row_order(tuple(spread), lists, sizes)
    order, starts = found.order.numpy(), found.starts.numpy()
    for k, own in enumerate(rows):
        place = sum(map(len, rows[:k]))
        expected = np.argsort(own, kind="stable")
        np.testing.assert_array_equal(order[place : place + len(own)], expected)
        firsts = np.flatnonzero(np.diff(own[expected], prepend=-1))
        np.testing.assert_array_equal(starts[place + k : place + k + found.groups[k] + 1], [*firsts, len(own)])
        assert found.groups[k] == len(set(own.tolist()))


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3))
def test_values_of_interleaved_bags_come_bag_by_bag(data: st.DataObject, bags: int) -> None:
    bag = st.lists(st.integers(0, 99), max_size=4)
    rows = data.draw(st.lists(st.lists(bag, min_size=bags, max_size=bags), max_size=9))
    lengths = [len(own) for row in rows for own in row]
    values = torch.tensor([value for row in rows for own in row for value in own], dtype=torch.int64)
    offsets = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int64)
    found = bag_entries(values, offsets, bags)
    assert len(found) == bags
    for number, (own, of) in enumerate(found):
        assert own.tolist() == [value for row in rows for value in row[number]]
        assert of.tolist() == [r for r, row in enumerate(rows) for _ in row[number]]
