"""Small delimited text files (events, ratings, movies) as typed tables, with errors that name the line."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from zoo.datasets.source_file import bad_line, open_source, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """``columns``: name and type (int64, float64 or string) of each. ``header``: the first line, if there is one."""

    columns: Mapping[str, pa.DataType]
    separator: str = "\t"
    header: str | None = None
    encoding: str = "utf8"


def read_delimited(path: Path, layout: Layout) -> pa.Table:
    """The whole file as a table. Raises ValueError naming file, line, expectation and what was found."""
    with open_source(path) as stream:
        content = stream.read()
    if layout.header is not None:
        first, _, content = content.partition(b"\n")
        if first.rstrip(b"\r") != layout.header.encode():
            raise bad_line(path, 1, f"the header {layout.header!r}", shown(first))
    if not content.strip():
        raise ValueError(f"{path} holds no data line")
    try:
        return _parse(content, layout)
    except pa.ArrowInvalid as error:
        raise _first_bad_line(path, content, layout) or ValueError(f"{path} cannot be read: {error}") from error


def _parse(content: bytes, layout: Layout) -> pa.Table:
    separator = layout.separator
    if len(separator) > 1:  # MovieLens-1M separates by "::", the parser takes one character
        content, separator = content.replace(separator.encode(), b"\t"), "\t"
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        read_options=pyarrow.csv.ReadOptions(column_names=list(layout.columns), encoding=layout.encoding),
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict(layout.columns), null_values=[]),
    )


def _first_bad_line(path: Path, content: bytes, layout: Layout) -> ValueError | None:
    first_number = 1 if layout.header is None else 2
    for number, line in enumerate(content.splitlines(), first_number):
        fields = line.split(layout.separator.encode())
        if len(fields) != len(layout.columns):
            expected = f"{len(layout.columns)} columns separated by {layout.separator!r} ({', '.join(layout.columns)})"
            return bad_line(path, number, expected, str(len(fields)))
        for (name, kind), field in zip(layout.columns.items(), fields, strict=True):
            if not _readable(field, kind):
                return bad_line(
                    path, number, f"{'a whole number' if kind == pa.int64() else 'a number'} in {name}", shown(field)
                )
    return None


def _readable(field: bytes, kind: pa.DataType) -> bool:
    if kind == pa.string():
        return True
    try:
        int(field) if kind == pa.int64() else float(field)
    except ValueError:
        return False
    return True
