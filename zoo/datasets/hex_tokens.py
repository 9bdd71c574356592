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
    values[~missing] = _combine(text.view("<u8"))
    return pa.array(values, mask=missing)


def _combine(tokens: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Tokens as words [n], first digit in the lowest byte, to numbers [n]; eight digits at a time.

    A digit's value is its low nibble, plus 9 for a letter (bit 6). It must be below 16 and, written out again as lower
    case, be the same.
    """
    value = (tokens & _bytes(0x0F)) + 9 * ((tokens >> np.uint64(6)) & _bytes(1))
    letter = ((value + _bytes(6)) >> np.uint64(4)) & _bytes(1)
    written = value + _bytes(0x30) + letter * np.uint64(0x27)
    if (value & _bytes(0xF0)).any() or not np.array_equal(tokens | (letter << np.uint64(5)), written):
        raise ValueError("a token holds a character that is no hexadecimal digit")
    for bits, mask in ((4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF), (16, 0xFFFFFFFF)):
        value = ((value << np.uint64(bits)) | (value >> np.uint64(2 * bits))) & np.uint64(mask)
    return value.astype(np.uint32)


def _bytes(value: int) -> np.uint64:
    """The same byte eight times."""
    return np.uint64(value * 0x0101010101010101)
