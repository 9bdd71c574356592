"""``amazon``: product reviews as behaviours, by the protocol of the DIN and DIEN papers.

Official name: "Amazon product data" of Julian McAuley's group, UCSD (cseweb.ucsd.edu/~jmcauley/datasets.html): per
category a review file (reviews_<Category>_5.json.gz: JSON lines) and a metadata file (meta_<Category>.json.gz: one
Python or JSON object per line). No checksum is published with the 2014 and 2018 files. Licence: for research, with a
citation of the owners' papers; nothing of it is copied here. An event file (header ``user item cate rel_time_s``,
tab-separated, times not decreasing within a user) holds the same, already numbered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zoo.datasets.amazon_metadata import read_categories
from zoo.datasets.behaviour_options import BehaviourOptions, load_behaviours
from zoo.datasets.behaviour_table import number_by_first_use, write_behaviours
from zoo.datasets.behaviours import Negatives
from zoo.datasets.cache import content_sha256
from zoo.datasets.delimited import Layout, read_delimited
from zoo.datasets.json_lines import read_json_blocks
from zoo.datasets.source_file import bad_line, open_source, require_path
from zoo.schema import Dataset

HOW_TO_GET = (
    "Get the review file (reviews_<Category>_5.json.gz) and the metadata file (meta_<Category>.json.gz) of a category "
    "from Julian McAuley's Amazon product data, cseweb.ucsd.edu/~jmcauley/datasets.html, and set dataset.path and "
    "dataset.metadata_path; or give an event file with the columns user, item, cate, rel_time_s"
)
EVENTS = Layout(
    columns={name: pa.int64() for name in ("user", "item", "cate", "rel_time_s")}, header="user\titem\tcate\trel_time_s"
)
REVIEWS = pa.schema([("reviewerID", pa.string()), ("asin", pa.string()), ("unixReviewTime", pa.int64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class AmazonOptions(BehaviourOptions):
    """``path``: the review file or an event file; ``metadata_path``: the metadata file that goes with reviews.

    ``negatives`` is "popular" unless told otherwise, as in DIEN's published preparation, which draws from the list of
    all reviews (process_data.py); DIN's (build_dataset.py) draws uniformly from the items. Uniform negatives are
    easier: a count of each item in the training split tells many of them apart.
    """

    metadata_path: str = ""
    negatives: Negatives = "popular"


def fingerprint(options: AmazonOptions, cache_dir: Path | None = None) -> str:
    """SHA-256 of the files' content, the options and the reader's version."""
    return options.identity([content_sha256(path, cache_dir) for path in _files(options)])


def load(options: AmazonOptions, cache_dir: Path, progress: Callable[[str, float], None]) -> Dataset:
    """Parse (or take from the cache), sample and split. Raises ValueError naming file and line for broken input."""
    files = _files(options)
    contents = [content_sha256(path, cache_dir) for path in files]

    def parse(folder: Path) -> None:
        if len(files) == 1:
            _parse_events(files[0], folder)
        else:
            _parse_reviews(files[0], files[1], folder, progress)

    progress("reading", 0.0)
    data = load_behaviours("amazon", options, contents, cache_dir, parse)
    progress("loaded", 1.0)
    return data


def _files(options: AmazonOptions) -> list[Path]:
    """[event file] or [review file, metadata file]."""
    path = require_path("dataset.path", options.path, HOW_TO_GET)
    if not path.is_file():
        raise ValueError(f"dataset.path={options.path} is a folder: name the file. {HOW_TO_GET}")
    with open_source(path) as stream:
        reviews = stream.read(1) == b"{"
    if not reviews:
        return [path]
    return [path, require_path("dataset.metadata_path", options.metadata_path, HOW_TO_GET)]


def _parse_events(path: Path, folder: Path) -> None:
    table = read_delimited(path, EVENTS)
    user, item, category, time = (table.column(name).to_numpy() for name in EVENTS.columns)
    backwards = np.flatnonzero((user[1:] == user[:-1]) & (time[1:] < time[:-1]))
    if len(backwards):
        row = int(backwards[0]) + 1
        raise bad_line(path, row + 2, f"a time not before {time[row - 1]} (the line above)", str(time[row]))
    items, number = np.unique(item, return_inverse=True)
    _, category_number = np.unique(category, return_inverse=True)
    category_of = np.zeros(len(items), np.int64)
    category_of[number[::-1]] = category_number[::-1]  # the first line of an item decides
    write_behaviours(folder, user, number.astype(np.int64), time, category_of)


def _parse_reviews(reviews: Path, metadata: Path, folder: Path, progress: Callable[[str, float], None]) -> None:
    blocks = []
    rows = 0
    for table in read_json_blocks(reviews, REVIEWS):
        blocks.append(table)
        rows += len(table)
        progress(f"reading {reviews.name}: {rows:,} reviews", 0.25)
    table = pa.concat_tables(blocks)
    user, _ = number_by_first_use(table.column("reviewerID"))
    item, asins = number_by_first_use(table.column("asin"))
    progress(f"reading {metadata.name}", 0.75)
    category_of = read_categories(metadata, asins.to_pylist())
    write_behaviours(folder, user, item, table.column("unixReviewTime").to_numpy(), category_of)
