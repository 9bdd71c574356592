"""The Criteo click log in its official format, streamed into parquet.

One sample per line, tab-separated, no header: label (0 or 1), I1-I13 (whole numbers, may be empty), C1-C26 (8
hexadecimal digits, may be empty). The file is read in blocks and written in row groups: memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from zoo.datasets.hex_tokens import DIGIT_VALUE, INVALID, TOKEN_DIGITS, parse_hex
from zoo.datasets.source_file import bad_line, open_source, shown

READER_VERSION = 1
"""Part of the cache key: raise it whenever the parquet's content or layout changes."""

DENSE_NAMES = tuple(f"I{number}" for number in range(1, 14))
ID_NAMES = tuple(f"C{number}" for number in range(1, 27))
COLUMNS = ("label", *DENSE_NAMES, *ID_NAMES)
BLOCK_BYTES = 16 << 20
LARGEST_INTEGER = 2**63 - 1

PARQUET_SCHEMA = pa.schema(
    [("label", pa.int8()), *((name, pa.int64()) for name in DENSE_NAMES), *((name, pa.uint32()) for name in ID_NAMES)]
)


def write_parquet(sources: list[Path], target: Path, max_rows: int, report: Callable[[str, int], None]) -> None:
    """Read ``sources`` one after the other into ``target``, at most ``max_rows`` rows (0: all).

    ``report`` gets the file name and the rows so far. Raises ValueError naming file, line and expectation.
    """
    rows = 0
    with pyarrow.parquet.ParquetWriter(target, PARQUET_SCHEMA, compression="snappy", use_dictionary=False) as writer:
        for source in sources:
            for table in _read_blocks(source):
                if max_rows:
                    table = table.slice(0, max_rows - rows)
                writer.write_table(table, row_group_size=max(1, len(table)))
                rows += len(table)
                report(source.name, rows)
                if max_rows and rows >= max_rows:
                    return


def _read_blocks(source: Path) -> Iterator[pa.Table]:
    """Tables of ``PARQUET_SCHEMA``, block by block."""
    try:
        with open_source(source) as stream:
            for batch in _open_csv(stream):
                yield _convert(batch)
    except (pa.ArrowInvalid, _TokenError) as error:
        raise first_bad_line(source) or ValueError(f"{source} cannot be read: {error}") from error


class _TokenError(Exception):
    """A field that the block-wise conversion refuses; the line is found by a second, slow pass."""


def _open_csv(stream: BinaryIO) -> pyarrow.csv.CSVStreamingReader:
    types = {"label": pa.int8(), **dict.fromkeys(DENSE_NAMES, pa.int64()), **dict.fromkeys(ID_NAMES, pa.string())}
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(column_names=list(COLUMNS), block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
    )


def _convert(batch: pa.RecordBatch) -> pa.Table:
    label = batch.column("label")
    if label.null_count or not np.isin(label.to_numpy(), (0, 1)).all():
        raise _TokenError("a label is not 0 or 1")
    columns = [label, *(batch.column(name) for name in DENSE_NAMES)]
    try:
        columns += [parse_hex(batch.column(name)) for name in ID_NAMES]
    except ValueError as error:
        raise _TokenError(str(error)) from error
    return pa.table(columns, schema=PARQUET_SCHEMA)


def first_bad_line(source: Path) -> ValueError | None:
    """The error for the first line that breaks the format, found line by line; None if every line keeps to it."""
    number = 0
    with open_source(source) as stream:
        for number, line in enumerate(stream, 1):
            fault = line_fault(line.rstrip(b"\r\n"))
            if fault:
                return bad_line(source, number, *fault)
    return None if number else ValueError(f"{source} holds no line: download it again")


def line_fault(line: bytes) -> tuple[str, str] | None:
    """(expected, found) for a line without its end that breaks the format, else None."""
    fields = line.split(b"\t")
    if len(fields) != len(COLUMNS):
        expected = f"{len(COLUMNS)} tab-separated columns (label, I1-I13, C1-C26)"
        hint = " (the official test.txt has no labels: use train.txt)" if len(fields) == len(COLUMNS) - 1 else ""
        return expected, f"{len(fields)}{hint}"
    if fields[0] not in (b"0", b"1"):
        return "label 0 or 1 in column 1", shown(fields[0])
    for name, field in zip(DENSE_NAMES, fields[1:14], strict=True):
        if field and not _is_integer(field):
            return f"a whole number or nothing in {name}", shown(field)
    for name, field in zip(ID_NAMES, fields[14:], strict=True):
        if field and (len(field) != TOKEN_DIGITS or any(DIGIT_VALUE[byte] == INVALID for byte in field)):
            return f"8 hexadecimal digits or nothing in {name}", shown(field)
    return None


def _is_integer(field: bytes) -> bool:
    digits = field.removeprefix(b"-")
    return digits.isdigit() and int(digits) <= LARGEST_INTEGER
