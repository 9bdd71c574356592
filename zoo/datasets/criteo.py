"""``criteo``: display-advertising click logs of Criteo, in their official format and in time order.

Official names: "Criteo Display Advertising Challenge" (Kaggle, 2014; train.txt of dac.tar.gz, 45,840,617 lines) and
"Criteo 1TB Click Logs" (day_0 to day_23), both published by the Criteo AI Lab (ailab.criteo.com). The owner publishes
no checksum. Licence: research use under Criteo's terms, no redistribution; nothing of it is copied here.

The lines are read in order and split in order, never shuffled: training first, then validation, then test. A query is
a run of consecutive test samples. There is no user column: all columns are item-side.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from zoo.datasets.cache import cached_folder, content_sha256, digest
from zoo.datasets.criteo_reader import DENSE_NAMES, ID_NAMES, READER_VERSION, write_parquet
from zoo.datasets.dense_statistics import log_statistics
from zoo.datasets.options import require_counts
from zoo.datasets.source_file import require_path
from zoo.schema import MISSING_ID, CrossField, Dataset, DenseField, IdField, Rows, Schema, Split

HOW_TO_GET = (
    "Get the Criteo Display Advertising data (train.txt of dac.tar.gz) or the 1TB Click Logs (day_0 ...) from the "
    "Criteo AI Lab, ailab.criteo.com, and give the file, plain or .gz, or the folder that holds it"
)
RARE_ID = -2
"""Raw id of every value that training shows fewer than ``min_count`` times."""

LINE_BYTES, PACKED_LINE_BYTES = 240, 70
"""Typical size of a line, plain and gzip-compressed."""

BUCKET_ROWS = 320
"""Rows of a bucket table: log(1 + x)**2 of the largest count in the logs lies below 300."""

MOST_THREADS = 8
"""More would not be quicker: each holds a row group or a column, and memory is what they share."""

CROSSES = (("C14", "C17"), ("C6", "C17"), ("C9", "C14"))
"""Crosses of low-cardinality columns for the wide part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriteoOptions:
    """``max_rows``: rows read from the start, 0 = all (a row takes 280 bytes of memory once loaded).

    valid, test: a share of the rows (below 1) or a number of rows, taken from the end. ``min_count``: values that
    training shows more rarely share one id per column. ``buckets``: integers also enter as log-bucketed ids.
    ``group_size``: samples per group.
    """

    path: str = ""
    max_rows: int = 4_000_000
    valid: int | float = 0.1
    test: int | float = 0.1
    table_rows: int = 100_000
    min_count: int = 4
    buckets: bool = True
    group_size: int = 100

    def __post_init__(self) -> None:
        require_counts(self, {"max_rows": 0, "table_rows": 2, "min_count": 1, "group_size": 1})
        for option in ("valid", "test"):
            if getattr(self, option) <= 0:
                raise ValueError(
                    f"dataset.{option}={getattr(self, option)} must be a share or a number of rows above 0"
                )


def fingerprint(options: CriteoOptions, cache_dir: Path | None = None) -> str:
    """SHA-256 of the files' content, the options and the reader's version."""
    shaped_by = {name: value for name, value in dataclasses.asdict(options).items() if name != "path"}
    return digest({**shaped_by, "reader": READER_VERSION, "content": _contents(_sources(options), cache_dir)})


def load(options: CriteoOptions, cache_dir: Path, progress: Callable[[str, float], None]) -> Dataset:
    """Parse (or take from the cache) and split. Raises ValueError naming file and line for broken input."""
    sources = _sources(options)
    identity = {"content": _contents(sources, cache_dir), "max_rows": options.max_rows, "reader": READER_VERSION}
    expected_rows = _expected_rows(options, sources)

    def parse(folder: Path) -> None:
        write_parquet(
            sources,
            folder / "rows.parquet",
            options.max_rows,
            lambda name, rows: progress(f"reading {name}: {rows:,} rows", min(1.0, rows / expected_rows)),
        )

    folder = cached_folder(cache_dir, f"criteo-{digest(identity)[:16]}", parse)
    progress("loading", 1.0)
    labels, dense, ids = _read_columns(folder / "rows.parquet")
    bounds = _split_bounds(options, len(labels))
    training_end = bounds[1]
    merge_rare(ids, training_end, options.min_count)
    parts = [
        _window(labels[start:end], dense[start:end], ids[start:end], options.group_size)
        for start, end in itertools.pairwise(bounds)
    ]
    return Dataset(
        name="criteo",
        schema=_schema(options, dense[:training_end]),
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        fingerprint=fingerprint(options, cache_dir),
    )


def _expected_rows(options: CriteoOptions, sources: list[Path]) -> int:
    """A guess from the sizes of the files, for the progress bar alone."""
    guess = sum(
        source.stat().st_size // (PACKED_LINE_BYTES if source.suffix == ".gz" else LINE_BYTES) for source in sources
    )
    return max(1, min(guess, options.max_rows or guess))


def merge_rare(ids: npt.NDArray[np.int64], training_end: int, min_count: int) -> None:
    """Replace, in place, the values of ids [R, F] that rows [0, training_end) show fewer than ``min_count`` times."""
    if min_count <= 1:
        return

    def merge(column: int) -> None:
        encoded = pa.array(np.ascontiguousarray(ids[:, column])).dictionary_encode()
        values, index = encoded.dictionary.to_numpy(), encoded.indices.to_numpy()
        rare = np.bincount(index[:training_end], minlength=len(values)) < min_count
        rare[values == MISSING_ID] = False
        ids[rare[index], column] = RARE_ID

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(merge, range(ids.shape[1])))


def _sources(options: CriteoOptions) -> list[Path]:
    """The files behind ``path``, in reading order: itself, a folder's train.txt, or its day_0, day_1, ..."""
    path = require_path("dataset.path", options.path, HOW_TO_GET)
    if path.is_file():
        return [path]
    for name in ("train.txt", "train.txt.gz"):
        if (path / name).is_file():
            return [path / name]
    days = {int(file.name.removesuffix(".gz").removeprefix("day_")): file for file in path.glob("day_[0-9]*")}
    if not days:
        raise ValueError(f"dataset.path={options.path} is a folder without train.txt or day_0. {HOW_TO_GET}")
    return [days[day] for day in sorted(days)]


def _contents(sources: list[Path], cache_dir: Path | None) -> list[str]:
    return [content_sha256(source, cache_dir) for source in sources]


def _read_columns(
    path: Path,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """labels [R], dense [R, 13] and ids [R, 26] of the parsed rows, filled one row group after the other."""
    source = pyarrow.parquet.ParquetFile(path).metadata
    rows, groups = source.num_rows, source.num_row_groups
    labels = np.empty(rows, np.float32)
    dense = np.empty((rows, len(DENSE_NAMES)), np.float32)
    ids = np.empty((rows, len(ID_NAMES)), np.int64)
    ends = np.cumsum([source.row_group(group).num_rows for group in range(groups)])

    def fill(group: int) -> None:
        table = pyarrow.parquet.ParquetFile(path).read_row_group(group, use_threads=False)
        own = slice(int(ends[group]) - len(table), int(ends[group]))
        labels[own] = table.column("label").to_numpy()
        for column, name in enumerate(DENSE_NAMES):
            dense[own, column] = table.column(name).cast(pa.float64(), safe=False).to_numpy()
        for column, name in enumerate(ID_NAMES):
            ids[own, column] = table.column(name).cast(pa.int64()).fill_null(MISSING_ID).to_numpy()

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(groups)))
    return labels, dense, ids


def _split_bounds(options: CriteoOptions, rows: int) -> tuple[int, int, int, int]:
    """Row numbers where training, validation and test begin, and the end."""
    valid, test = (int(part * rows) if part < 1 else int(part) for part in (options.valid, options.test))
    if valid < 1 or test < 1 or valid + test >= rows:
        raise ValueError(
            f"dataset.valid={options.valid} and dataset.test={options.test} leave nothing to train on, or an empty "
            f"split: {options.path} holds {rows:,} rows; give shares below 1 that add up to less than 1"
        )
    return 0, rows - valid - test, rows - test, rows


def _window(
    labels: npt.NDArray[np.float32], dense: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], group_size: int
) -> Split:
    """A split whose groups are consecutive samples; its one user row has no column."""
    count = len(labels)
    return Split(
        user=Rows.empty(1),
        item=Rows(dense, ids, np.zeros(0, np.int64), np.zeros(1, np.int64)),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(2, np.int64),
        user_of=np.zeros(count, np.int64),
        labels=labels,
        groups=np.append(np.arange(0, count, group_size), count).astype(np.int64),
    )


def _schema(options: CriteoOptions, training: npt.NDArray[np.float32]) -> Schema:
    mean, std = log_statistics(training)
    dense = tuple(
        DenseField(name=name, side="item", transform="log", mean=mean[column], std=std[column])
        for column, name in enumerate(DENSE_NAMES)
    )
    ids = tuple(
        IdField(name=name, side="item", column=column, table=name, rows=options.table_rows)
        for column, name in enumerate(ID_NAMES)
    )
    if options.buckets:
        ids += tuple(
            IdField(
                name=f"{name}_bucket",
                side="item",
                column=column,
                table=f"{name}_bucket",
                rows=BUCKET_ROWS,
                source="bucket",
            )
            for column, name in enumerate(DENSE_NAMES)
        )
    crosses = tuple(CrossField(name=f"{a}x{b}", left=a, right=b, rows=options.table_rows) for a, b in CROSSES)
    return Schema(name="criteo", dense=dense, ids=ids, crosses=crosses)
