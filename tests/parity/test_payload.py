"""The native reader of payloads against ``wire.decode``: the same columns, the same verdict on damage."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.transport.wire import HEADER, MAX_COUNT, decode, encode
from optimizations.kernels.loader import load_kernels
from zoo.schema import Batch, Rows

WELL_FORMED = 0
VERDICTS = {
    "the header alone has": 1,
    "wrong magic number": 2,
    "present": 3,
    "a count is out of range": 4,
    "a column reaches past the end": 5,
    "described": 6,
    "offsets do not ascend": 7,
    "user_of names a user": 8,
}
"""Codes of payload.h by what ``decode`` says."""


class Read:
    """What the native reader makes of ``payload``: its code, words of the query and counted columns."""

    def __init__(self, payload: bytes) -> None:
        self.memory = np.zeros(len(payload) // 8 + 1, np.int64)
        ctypes.memmove(self.memory.ctypes.data, payload, len(payload))
        self.query, self.columns = np.zeros(19, np.int64), np.zeros(7, np.int64)
        self.code = load_kernels().recarena_payload_read(
            self.memory.ctypes.data, len(payload), self.query.ctypes.data, self.columns.ctypes.data
        )

    def array(self, word: int, dtype: Any, *shape: int) -> npt.NDArray[Any]:
        """The array to which a word of the query points."""
        start = int(self.query[word]) - self.memory.ctypes.data
        return np.frombuffer(self.memory, dtype, int(np.prod(shape)), start).reshape(shape)

    def batch(self) -> Batch:
        """The columns that were found, with the shapes that were counted."""
        users, samples = (int(count) for count in self.query[:2])
        sides = []
        for side, rows in enumerate((users, samples)):
            first = 2 + 6 * side
            dense, ids, bags = (int(count) for count in self.columns[side:6:2])
            assert self.query[first + 4 : first + 6].tolist() == [dense, ids]
            offsets = self.array(first + 3, np.int64, rows * bags + 1)
            values = self.array(first + 2, np.int64, int(offsets[-1]))
            floats, numbers = (
                self.array(first + k, kind, rows, n) for k, kind, n in ((0, np.float32, dense), (1, np.int64, ids))
            )
            sides.append(Rows(floats, numbers, values, offsets))
        history_offsets = self.array(15, np.int64, users + 1)
        history = self.array(14, np.int64, int(history_offsets[-1]), int(self.columns[6]))
        return Batch(sides[0], sides[1], history, history_offsets, self.array(16, np.int64, samples))


def verdict(payload: bytes) -> int:
    """Code of what ``decode`` says."""
    try:
        decode(payload)
    except ValueError as error:
        (code,) = (code for words, code in VERDICTS.items() if words in str(error))
        return code
    return WELL_FORMED


def _rows(rng: np.random.Generator, count: int, dense: int, ids: int, bags: int) -> Rows:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, count * bags))]).astype(np.int64)
    columns = rng.normal(size=(count, dense)).astype(np.float32)
    columns[rng.random((count, dense)) < 0.2] = np.nan
    return Rows(columns, rng.integers(-1, 2**62, (count, ids)), rng.integers(-1, 9, offsets[-1]), offsets)


def _batch(seed: int, users: int, samples: int, shapes: Any, longest: int = 6, history: int = 2) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest, users)
    return Batch(
        _rows(rng, users, *shapes[0]),
        _rows(rng, samples, *shapes[1]),
        rng.integers(-1, 2**40, (int(lengths.sum()), history)),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        rng.integers(0, max(users, 1), samples),
    )


SHAPE = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3))
PAYLOADS = st.builds(
    lambda *parts: encode(_batch(*parts)),
    *(st.integers(0, 2**32), st.integers(0, 5), st.integers(0, 12), st.tuples(SHAPE, SHAPE)),
    *(st.sampled_from([1, 6, 40]), st.integers(0, 3)),
)
"""No user and no sample, one and many; no column at all; empty bags; no history (``longest`` 1)."""
SMALL = encode(_batch(7, 2, 3, ((1, 2, 1), (3, 1, 2))))


@given(PAYLOADS, st.integers(0, 40))
@settings(max_examples=300)
def test_both_read_the_same_columns(payload: bytes, more: int) -> None:
    read = Read(payload + bytes(more))
    assert read.code == verdict(payload)
    if read.code == WELL_FORMED:
        assert encode(read.batch()) == encode(decode(payload))


@pytest.mark.parametrize(
    ("users", "samples", "code"), [(0, 0, WELL_FORMED), (0, 1, 8), (1, 0, WELL_FORMED), (1, 1, WELL_FORMED)]
)
def test_nobody_and_nothing(users: int, samples: int, code: int) -> None:
    payload = encode(_batch(3, users, samples, ((1, 1, 0), (2, 1, 0))))
    assert Read(payload).code == verdict(payload) == code


@given(PAYLOADS, st.data())
@settings(max_examples=400)
def test_both_have_the_same_verdict_on_a_damaged_word(payload: bytes, data: st.DataObject) -> None:
    word = 8 * data.draw(st.integers(0, len(payload) // 8 - 1))
    old = int.from_bytes(payload[word : word + 8], "little", signed=True)
    near = st.integers(max(old - 9, -(2**63)), min(old + 9, 2**63 - 1))
    edges = st.sampled_from([-(2**63), -1, 0, 1, MAX_COUNT, MAX_COUNT + 1, 2**61, 2**63 - 1])
    new = data.draw(near | edges)
    damaged = payload[:word] + new.to_bytes(8, "little", signed=True) + payload[word + 8 :]
    assert Read(damaged).code == verdict(damaged)


def test_both_have_the_same_verdict_on_every_byte_of_the_header() -> None:
    seen = set()
    for at, value in itertools.product(range(HEADER.size), (0, 1, 2, 3, 0x7F, 0x80, 0xFF)):
        damaged = SMALL[:at] + bytes([value]) + SMALL[at + 1 :]
        code = verdict(damaged)
        assert Read(damaged).code == code, (at, value)
        seen.add(code)
    assert seen >= {WELL_FORMED, 2, 3, 4, 5, 6}


def test_both_have_the_same_verdict_on_every_word_of_the_sections() -> None:
    seen = set()
    for word in range(HEADER.size, len(SMALL), 8):
        old = int.from_bytes(SMALL[word : word + 8], "little", signed=True)
        for new in {-1, 0, 1, 2, min(old + 1, 2**63 - 1), 2**62}:
            damaged = SMALL[:word] + new.to_bytes(8, "little", signed=True) + SMALL[word + 8 :]
            code = verdict(damaged)
            assert Read(damaged).code == code, (word, new)
            seen.add(code)
    assert seen == {WELL_FORMED, 7, 8}


def test_products_of_counts_do_not_wrap() -> None:
    """Counts in range whose product is 0, 8 or 2^62 in 64 bits, or whose bytes are."""
    fields = list(HEADER.unpack_from(SMALL))
    big = [1 << 22, 1 << 31, 1 << 32, 1 << 40, (1 << 40) - 1]
    for rows, columns in itertools.product((2, 3, 12), range(4, 14)):
        for a, b in itertools.product(big, big):
            changed = list(fields)
            changed[rows], changed[columns] = a, b
            damaged = HEADER.pack(*changed) + SMALL[HEADER.size :]
            assert Read(damaged).code == verdict(damaged) != WELL_FORMED


def test_both_refuse_every_truncation() -> None:
    for size in range(len(SMALL)):
        code = verdict(SMALL[:size])
        assert Read(SMALL[:size]).code == code != WELL_FORMED


def test_memory_that_is_not_aligned_is_refused() -> None:
    memory = np.zeros(len(SMALL) // 8 + 2, np.int64)
    query, columns = np.zeros(19, np.int64), np.zeros(7, np.int64)
    for shift in range(8):
        start = memory.ctypes.data + shift
        ctypes.memmove(start, SMALL, len(SMALL))
        code = load_kernels().recarena_payload_read(start, len(SMALL), query.ctypes.data, columns.ctypes.data)
        assert (code == WELL_FORMED) == (shift == 0)
