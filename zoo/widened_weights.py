"""Weights for tables that hold copies of the trained ones' rows (``zoo.datasets.table_copies``). No framework."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zoo.checkpoint import load_weights, new_weights_file
from zoo.datasets.cache import locked
from zoo.schema import Schema

Array = npt.NDArray[Any]


def widened_bytes(trained: Path, schema: Schema) -> int:
    """Size of what ``widen`` would write, up to some kilobytes."""
    wanted = _rows(schema)
    return sum(
        array.nbytes // max(1, len(array)) * wanted[name] if name in wanted else array.nbytes
        for name, array in load_weights(trained).items()
    )


def widen(trained: Path, schema: Schema, out: Path) -> None:
    """Write the weights in ``trained`` to ``out`` with tables of ``schema``'s sizes.

    Row 0 of a table, then its other rows again and again. Under a temporary name, then renamed; one process writes, the
    others wait and find it. Raises ValueError for a table that is no whole number of copies, OSError with one paragraph
    where the disk has no room.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.parent):
        if not out.exists():
            _write(trained, schema, out)


def _write(trained: Path, schema: Schema, out: Path) -> None:
    wanted, needed = _rows(schema), widened_bytes(trained, schema)
    free = shutil.disk_usage(out.parent).free
    try:
        if needed > free:
            raise OSError(f"{free / 1e9:.2f} GB are free")
        with new_weights_file(out) as file:
            for name, array in load_weights(trained).items():
                rows = wanted.get(name, len(array) if array.ndim else 0)
                file.add(name, (rows, *array.shape[1:]) if array.ndim else (), array.dtype, _copied(name, array, rows))
    except OSError as error:
        raise OSError(
            f"The large tables need {needed / 1e9:.2f} GB in {out.parent}, and they cannot be written ({error}): make "
            "room there, say cache_dir=DIR for a folder on another disk, or choose fewer dataset.table_copies."
        ) from error


def _copied(name: str, array: Array, rows: int) -> Iterator[Array]:
    yield array[:1] if array.ndim else array
    if array.ndim and len(array) > 1:
        copies, rest = divmod(rows - 1, len(array) - 1)
        if rest:
            raise ValueError(f"{name} has {len(array)} rows, and {rows} are no whole number of copies of them")
        for _ in range(copies):
            yield array[1:]


def _rows(schema: Schema) -> Mapping[str, int]:
    """Rows of every table, deep and wide, by the name of its weight."""
    deep = {f"embedding.tables.{table}.weight": rows for table, rows in schema.tables().items()}
    return deep | {f"wide.tables.{field.name}.weight": field.rows for field in (*schema.ids, *schema.bags)}
