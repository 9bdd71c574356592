"""Payloads survive the round trip bit by bit; anything malformed is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.transport.wire import HEADER, SAMPLES, SAMPLES_OFFSET, decode, encode, payload_bound
from tests.unit.harness.transport.raw_rows import draw_rows
from zoo.schema import Batch, Split


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    users, samples = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    shape = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3))
    lengths = rng.integers(0, 6, users)
    return Batch(
        draw_rows(rng, users, *draw(shape)),
        draw_rows(rng, samples, *draw(shape)),
        rng.integers(-1, 2**40, (int(lengths.sum()), draw(st.integers(0, 3)))),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        rng.integers(0, users, samples),
    )


def _arrays(batch: Batch) -> list[np.ndarray]:
    sides = [(r.dense, r.ids, r.bag_values, r.bag_offsets) for r in (batch.user, batch.item)]
    return [*sides[0], *sides[1], batch.history, batch.history_offsets, batch.user_of]


@given(batches())
@settings(max_examples=150)
def test_round_trip(batch: Batch) -> None:
    payload = encode(batch)
    again = decode(payload + bytes(16))
    for before, after in zip(_arrays(batch), _arrays(again), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert SAMPLES.unpack_from(payload, SAMPLES_OFFSET)[0] == len(batch)
    assert len(payload) % 8 == 0


@given(batches())
@settings(max_examples=30)
def test_decoding_copies_nothing(batch: Batch) -> None:
    payload = bytearray(encode(batch))
    view = decode(memoryview(payload))
    low = np.frombuffer(payload, np.uint8).ctypes.data
    for array in _arrays(view):
        assert array.size == 0 or low <= array.ctypes.data < low + len(payload)


@given(batches(), st.data())
@settings(max_examples=300)
def test_damage_is_refused_or_still_consistent(batch: Batch, data: st.DataObject) -> None:
    payload = bytearray(encode(batch))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    try:
        again = decode(payload)
    except ValueError:
        return
    users = len(again.history_offsets) - 1
    assert (again.user_of >= 0).all() and (again.user_of < users).all()
    assert again.history_offsets[-1] == len(again.history) and (np.diff(again.history_offsets) >= 0).all()
    for rows in (again.user, again.item):
        assert rows.bag_offsets[-1] == len(rows.bag_values) and (np.diff(rows.bag_offsets) >= 0).all()


@given(batches(), st.data())
@settings(max_examples=60)
def test_truncation_is_refused(batch: Batch, data: st.DataObject) -> None:
    payload = encode(batch)
    with pytest.raises(ValueError, match="malformed payload"):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ValueError, match="malformed payload"):
        decode(noise)


def test_absurd_counts_are_refused_before_anything_is_allocated(split: Split) -> None:
    fields = list(HEADER.unpack_from(encode(split.batch(np.arange(3)))))
    for position in range(2, len(fields)):
        for value in (-1, 2**62):
            damaged = [*fields[:position], value, *fields[position + 1 :]]
            with pytest.raises(ValueError, match="malformed payload"):
                decode(HEADER.pack(*damaged) + bytes(4096))


def test_no_payload_of_a_split_exceeds_the_bound(split: Split) -> None:
    bound = payload_bound([split], 100)
    rng = np.random.default_rng(0)
    sizes = [len(encode(split.batch(rng.integers(0, len(split), 100)))) for _ in range(50)]
    widest = np.argsort(np.diff(split.history_offsets))[-1]
    sizes.append(len(encode(split.batch(np.flatnonzero(split.user_of == widest)[:100]))))
    assert max(sizes) <= bound
    assert len(encode(split.training_batch(np.full(100, np.flatnonzero(split.user_of == widest)[0])))) <= bound
