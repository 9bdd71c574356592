"""Large files of one JSON object per line, streamed in blocks, with errors that name the line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.json

from zoo.datasets.source_file import bad_line, open_source, shown

BLOCK_BYTES = 16 << 20


def read_json_blocks(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables with the columns of ``schema``, block by block; other keys are skipped.

    Raises ValueError naming the file and the first line that is no JSON object or lacks a column.
    """
    number = 1
    with open_source(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            block += stream.readline()
            yield _parse(path, block, number, schema)
            number += block.count(b"\n")


def _parse(path: Path, block: bytes, first_number: int, schema: pa.Schema) -> pa.Table:
    cause: Exception | None = None
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(block),
            read_options=pyarrow.json.ReadOptions(block_size=len(block)),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        if not any(column.null_count for column in table.columns):
            return table
    except pa.ArrowInvalid as error:
        cause = error
    fault = _first_bad_line(path, block, first_number, schema)
    raise fault or ValueError(f"{path}, from line {first_number}: cannot be read as JSON lines ({cause})") from cause


def _first_bad_line(path: Path, block: bytes, first_number: int, schema: pa.Schema) -> ValueError | None:
    for number, line in enumerate(block.splitlines(), first_number):
        expected = f"a JSON object with {', '.join(schema.names)}"
        try:
            value = json.loads(line)
        except ValueError:
            return bad_line(path, number, expected, shown(line))
        if not isinstance(value, dict):
            return bad_line(path, number, expected, shown(line))
        for field in schema:
            kind = str if field.type == pa.string() else int
            if not isinstance(value.get(field.name), kind):
                return bad_line(path, number, f"{expected}, {field.name} of type {field.type}", shown(line))
    return None
