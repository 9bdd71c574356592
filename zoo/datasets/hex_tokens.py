"""Columns of 8-digit hexadecimal tokens to whole numbers, without a Python loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TOKEN_DIGITS = 8
INVALID = 255


def _digit_values() -> npt.NDArray[np.uint8]:
    values = np.full(256, INVALID, np.uint8)
    for value, digits in enumerate(zip("0123456789abcdef", "0123456789ABCDEF", strict=True)):
        for digit in digits:
            values[ord(digit)] = value
    return values


DIGIT_VALUE = _digit_values()


def parse_hex(column: pa.Array) -> pa.Array:
    """A string array of 8-digit hexadecimal tokens or nulls to uint32 with the same nulls.

    Raises ValueError when a token is not made of exactly 8 hexadecimal digits (which one: see the reader's search).
    """
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(offsets)
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else np.zeros(len(column), bool)
    if np.any(lengths != np.where(missing, 0, TOKEN_DIGITS)):
        raise ValueError("a token does not have 8 digits")
    text = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    values = np.zeros(len(column), np.uint32)
    values[~missing] = _combine(DIGIT_VALUE[text])
    return pa.array(values, mask=missing)


def _combine(digits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Digit values [8 n] to numbers [n]: pairs to bytes, bytes read as big-endian words."""
    if len(digits) and digits.max() == INVALID:
        raise ValueError("a token holds a character that is no hexadecimal digit")
    octets = (digits[0::2] << 4) | digits[1::2]
    return octets.view(">u4").astype(np.uint32)
