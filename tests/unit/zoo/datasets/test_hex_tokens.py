"""Hexadecimal columns against int(token, 16)."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.datasets.hex_tokens import parse_hex

token = st.integers(0, 2**32 - 1).map(lambda value: f"{value:08x}") | st.integers(0, 2**32 - 1).map(
    lambda value: f"{value:08X}"
)


@given(st.lists(token | st.none(), max_size=40), st.integers(0, 5))
def test_tokens_are_read_like_int_base_16(tokens: list[str | None], skipped: int) -> None:
    column = pa.array(tokens, pa.string()).slice(min(skipped, len(tokens)))
    expected = [None if token is None else int(token, 16) for token in tokens[skipped:]]
    assert parse_hex(column).to_pylist() == expected


@pytest.mark.parametrize("bad", ["0000000", "000000000", "0000000g", "0000 000", "-0000001", "0x000001", "+0000001"])
def test_anything_else_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="token"):
        parse_hex(pa.array(["00000001", bad], pa.string()))


@pytest.mark.parametrize("place", [0, 3, 7])
def test_every_byte_is_a_digit_or_refused(place: int) -> None:
    for byte in range(256):
        token = bytearray(b"0a9F7e00")
        token[place] = byte
        column = pa.array([bytes(token)], pa.binary())
        if chr(byte) in "0123456789abcdefABCDEF":
            assert parse_hex(column).to_pylist() == [int(bytes(token), 16)]
        else:
            with pytest.raises(ValueError, match="no hexadecimal digit"):
                parse_hex(column)
