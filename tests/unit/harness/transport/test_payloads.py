"""Payloads of many queries are those of the queries one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.traffic.arena import PayloadArena
from harness.traffic.arrivals import Queries
from harness.transport.payloads import encode_queries
from harness.transport.slots import map_shared
from harness.transport.wire import encode
from tests.unit.harness.transport.raw_rows import draw_rows
from zoo.schema import Split


@st.composite
def splits(draw: st.DrawFn) -> Split:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    users, samples = draw(st.integers(1, 5)), draw(st.integers(1, 20))
    shape = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))
    lengths = rng.integers(0, 5, users)
    return Split(
        user=draw_rows(rng, users, *draw(shape)),
        item=draw_rows(rng, samples, *draw(shape)),
        history=rng.integers(-1, 2**40, (int(lengths.sum()), draw(st.integers(0, 2)))),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_of=rng.integers(0, users, samples),
        labels=np.zeros(samples, np.float32),
        groups=np.array([0, samples]),
    )


def _asked(split: Split, draw: st.DataObject) -> Queries:
    sample = st.integers(0, len(split) - 1)
    lists = draw.draw(st.lists(st.lists(sample, min_size=1, max_size=6), min_size=1, max_size=5))
    offsets = np.concatenate([[0], np.cumsum([len(samples) for samples in lists])]).astype(np.int64)
    return Queries(np.arange(len(lists)), np.concatenate(lists).astype(np.int64), offsets)


def _one_by_one(split: Split, queries: Queries) -> list[bytes]:
    return [encode(split.batch(queries.samples[low:high])) for low, high in pairwise(queries.offsets.tolist())]


@given(splits(), st.data())
@settings(max_examples=100)
def test_each_payload_is_that_of_its_query_alone(split: Split, data: st.DataObject) -> None:
    queries = _asked(split, data)
    payloads, bounds = encode_queries(split, queries.samples, queries.offsets)
    assert [payloads[low:high].tobytes() for low, high in pairwise(bounds.tolist())] == _one_by_one(split, queries)


@given(splits(), st.data())
@settings(max_examples=30)
def test_the_arena_holds_the_payload_of_each_query(split: Split, data: st.DataObject) -> None:
    """Also of those that a segment before has placed, and of those that one segment asks twice."""
    arena = PayloadArena()
    for queries in (_asked(split, data), _asked(split, data)):
        starts, lengths = arena.place(split, queries, 1 << 20)
        memory = map_shared(arena.descriptor, arena.bytes)
        found = [memory[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        memory.close()
        assert found == _one_by_one(split, queries)
    arena.close()
